"""A key/value cache of fixed size in which every slot is at its own position.

    keys, values of a layer    (slots, heads, room, head size), memory allocated once
    slot i                     holds places 0 .. n_i - 1; what lies behind is old, and no query ever sees it

A step writes the keys of token t of row i at place (i, positions[i, t]) and lets it look at places 0 ..
positions[i, t] of its own slot. So rows at different positions decode together, a finished row's slot is
simply written over, and a prompt that several episodes share is computed once and copied. It plugs into
transformers at two public seams: the cache interface, and the attention interface, where `slot_attention`
takes the place of "sdpa": with a mask, that would first repeat keys and values for every query head."""

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, Cache
from transformers.cache_utils import CacheLayerMixin

from models import backbone, is_mixed, score, unwrap
from runs import UserError


def slot_attention(module, query, key, value, attention_mask, scaling=None, lengths=None, **kwargs):
    """Grouped-query attention that reads each key once. query (R, heads, T, size); key, value (R, heads / G,
    L, size); attention_mask (R, 1, G * T, L) is added. lengths: how many places each row reads, on a CPU,
    where a row costs what it reads and not, as with a mask, what the longest one does."""
    rows, heads, steps, size = query.shape
    shared = key.shape[1]
    query = query.reshape(rows, shared, heads // shared * steps, size)
    if lengths:
        out = torch.stack([torch.bmm(torch.bmm(q, k[:, :n].transpose(1, 2)).softmax(-1), v[:, :n])
                           for q, k, v, n in zip(query * scaling, key, value, lengths)])
    else:
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling)
    return out.reshape(rows, heads, steps, size).transpose(1, 2), None


AttentionInterface.register("slots", slot_attention)


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer. Its SlotCache says where to write and how far to read."""

    def __init__(self, cache: "SlotCache", shape: tuple[int, ...], dtype: torch.dtype, device):
        super().__init__()
        self.cache, self.is_initialized = cache, True
        self.both = torch.zeros(2, *shape, dtype=dtype, device=device)
        self.keys, self.values = self.both

    def update(self, keys: torch.Tensor, values: torch.Tensor, *args, **kwargs):
        """Write (R, heads, T, size) at the current rows and positions; all that these rows may attend to."""
        rows, positions, length = self.cache.rows, self.cache.positions, self.cache.length
        new = torch.stack((keys.transpose(1, 2), values.transpose(1, 2)), 2)  # (R, T, 2, heads, size)
        self.both[:, rows[:, None], :, positions] = new
        # The first n slots are a view; other sets of rows (only in prefill) are gathered.
        rows = slice(len(rows)) if self.cache.leading else rows
        return self.keys[rows, :, :length], self.values[rows, :, :length]

    def lazy_initialization(self, *args, **kwargs):
        """Nothing to do: the memory is there from the start."""

    def get_seq_length(self) -> int:
        return 0  # each slot has its own length; positions and mask are always passed explicitly

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.length, 0

    def get_max_cache_shape(self) -> int:
        return self.keys.shape[2]

    get_max_length = get_max_cache_shape


class SlotCache(Cache):
    """The cache, and two ways to run a model on it: `prefill` any tokens of any rows, `decode` one each."""

    def __init__(self, policy, slots: int, length: int):
        config = unwrap(policy).config
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.groups = config.num_attention_heads // config.num_key_value_heads  # query heads that share a key
        # No query attends to the last place of a slot: padding of short rows in a prefill is written there.
        shape = (slots, config.num_key_value_heads, length + 1, size)
        weight = unwrap(policy).get_input_embeddings().weight
        super().__init__(layers=[SlotLayer(self, shape, weight.dtype, weight.device)
                                 for _ in range(config.num_hidden_layers)])
        self.policy = policy
        self.slots = slots
        self.capacity = length
        self.device = weight.device
        self.dtype = weight.dtype
        self.bytes = sum(layer.both.nbytes for layer in self.layers)

    @torch.no_grad()
    def prefill(self, rows: list[int], ids: list[list[int]], starts: list[int]) -> None:
        """Bring the tokens ids[i] into slot rows[i], from place starts[i] on."""
        width, length = max(map(len, ids)), max(start + len(row) for start, row in zip(starts, ids))
        padded = torch.tensor([row + [0] * (width - len(row)) for row in ids], device=self.device)  # (R, T)
        lengths = torch.tensor([len(row) for row in ids], device=self.device)[:, None]
        steps = torch.arange(width, device=self.device)
        positions = torch.tensor(starts, device=self.device)[:, None] + steps
        positions = torch.where(steps < lengths, positions, self.capacity)
        self._forward(padded, positions, length, None if rows == list(range(len(rows)))
                      else torch.tensor(rows, device=self.device))

    @torch.no_grad()
    def decode(self, ids: list[int], places: list[int]) -> torch.Tensor:
        """Feed slot i, of the first R, the token ids[i] at places[i]; logits (R, V) of what follows."""
        inputs = torch.tensor([ids, places], device=self.device)  # (2, R): one transfer
        own = {"lengths": [place + 1 for place in places]} if self.device.type == "cpu" else {}
        hidden = self._forward(inputs[0, :, None], inputs[1, :, None], max(places) + 1, **own)
        return unwrap(self.policy).get_output_embeddings()(hidden[:, 0])

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy a slot's first `length` places to another slot."""
        for layer in self.layers:
            layer.both[:, target, :, :length] = layer.both[:, source, :, :length]

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor, length: int,
                 rows: torch.Tensor | None = None, **options) -> torch.Tensor:
        """Hidden states (R, T, H) of ids (R, T) at positions (R, T) of these slots (None: the first R)."""
        self.leading = rows is None
        self.rows = torch.arange(len(ids), device=self.device) if rows is None else rows
        self.positions, self.length = positions, length
        seen = torch.arange(length, device=self.device) <= positions[:, :, None]  # (R, T, L)
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=self.device)
        mask.masked_fill_(~seen, float("-inf"))
        mask = mask[:, None].repeat(1, 1, self.groups, 1)  # (R, 1, G * T, L), see slot_attention
        config = unwrap(self.policy).config
        usual, config._attn_implementation = config._attn_implementation, "slots"
        try:
            return backbone(self.policy)(input_ids=ids, attention_mask=mask, position_ids=positions,
                                         past_key_values=self, use_cache=True, **options).last_hidden_state
        finally:
            config._attn_implementation = usual


@torch.no_grad()
def check_cache(policy, ids: list[int], length: int) -> None:
    """UserError if a model would be sampled with other probabilities than it is trained with, or has itself.
    ids: a short conversation, read in three ways; length: of the longest one. Sliding windows and soft caps
    are such reasons: trained all the same, the model would learn nothing, and nobody would know why."""
    config = unwrap(policy).config
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    if window and window < length and (not kinds or "sliding_attention" in kinds):
        raise UserError(f"this model looks back only {window} tokens (sliding window), and rollouts cannot: "
                        f"use --episode-tokens {window}")
    cache = SlotCache(policy, 1, len(ids))
    cache.prefill([0], [ids[:-1]], [0])
    sampler = cache.decode(ids[-1:], [len(ids) - 1]).float().log_softmax(-1)[0]
    tokens = torch.tensor([ids], device=cache.device)
    own, likeliest = policy(input_ids=tokens).logits[0, -1].float().log_softmax(-1).topk(8)
    answer = torch.cat((tokens, likeliest[None, :1]), 1)
    try:
        trainer = score(policy, answer, torch.ones_like(answer))[0][0, -1]
    except ValueError as error:  # transformers refuses soft caps
        raise UserError(f"this model cannot be trained here: {error}") from None
    gap = max((sampler[likeliest] - own).abs().max().item(), (trainer - own[0]).abs().item())
    if not gap < (0.02 if cache.dtype == torch.float32 and not is_mixed(policy) else 0.5):
        raise UserError(f"this model cannot be trained here: in rollouts its log-probabilities are off by "
                        f"{gap:.2f} (soft caps, scaled logits, a kind of attention of its own?)")
