"""The protocol between policy and interpreter: one growing conversation, tokens in, tokens out.

    system      how to answer (three modes: interpreter, text only, code only)
    user        the question
    assistant   reasoning, and if the policy likes one ```python block          <- sampled, trained
    user        Code Execution Results: what the block printed                  <- inserted, never trained
    assistant   more reasoning, another block, or the end: <<<answer>>>         <- sampled, trained

The paper's protocol (arXiv 2505.21668, section 3); results arrive as a user turn of the model's own chat
template, and the wording of the prompts is ours. Everything is built from *token ids*: a sampled turn is kept
as sampled, and what the platform adds is encoded once, as one piece. To decode the conversation and encode it
again would give other ids at the seams, and train the policy on a text that it never wrote. So `Chat` asks
the template just once what it puts round messages, by rendering sentinels."""
import re

from jinja2 import TemplateError

from runs import UserError
from tasks import extract_answer

MODES = ("interpreter", "text", "code")
ANSWER_FORMATS = {"angle": ("<<<", ">>>"), "boxed": ("\\boxed{", "}"), "tags": ("<answer>", "</answer>")}
RESULTS = "Code Execution Results:\n"

# "full": for pretrained models; "after": the same, behind the question in its message; "short": for "tiny".
_BLOCK = ("write one complete python script in a ```python block which prints the result, and stop after the "
          "block: it will be run, and you will be shown its output. ")
_FORM = "Put your final answer within {marks}, in the form that the answer format asks for."
PROMPTS = {
    "full": {"interpreter": f"Please reason step by step. If a program would help, {_BLOCK}{_FORM}",
             "text": f"Please reason step by step, in words and without code. {_FORM}",
             "code": f"Please think first, then {_BLOCK}{_FORM}"},
    "short": {"interpreter": "Think or run python, then answer {answer}.",
              "text": "Think, then answer {answer}.", "code": "Run python, then answer {answer}."},
}
PROMPTS["after"] = PROMPTS["full"]
AGAIN = {"after": "\n\nNow put the final answer within {marks}, or write another script."}  # behind results

# Any case, multi-line; also indented, as in a list (tasks.py leaves out the same when it looks for answers).
CODE_BLOCK = re.compile(r"(?ims)^([ \t]*)```(?:python|py|python3)[ \t]*\n(.*?)^\1?```")


def state_answer(answer: str, answer_format: str = "angle") -> str:
    """'42' -> '<<<42>>>', in the chosen format."""
    return answer.join(ANSWER_FORMATS[answer_format])


def filled(text: str, answer_format: str) -> str:
    """A wording with the marks of an answer where it says {answer} or {marks}."""
    marks, answer = (state_answer(inside, answer_format) for inside in ("", "answer"))
    return text.replace("{marks}", marks).replace("{answer}", answer)


def head_prompt(mode: str = "interpreter", style: str = "full", answer_format: str = "angle") -> str:
    """The instructions: how to work and how to end."""
    return filled(PROMPTS[style][mode], answer_format)


def one_message(messages: list[dict], behind: bool = False) -> list[dict]:
    """The same conversation with the instructions in the question's message, before or behind it."""
    texts = [message["content"] for message in messages[:2]]
    return [{"role": "user", "content": "\n\n".join(texts[::-1] if behind else texts)}, *messages[2:]]


def find_code(text: str) -> str | None:
    """The program of the first complete ```python block in a turn; None if there is none (yet)."""
    block = CODE_BLOCK.search(text)
    return re.sub(f"(?m)^{block[1]}", "", block[2]) if block else None


class Chat:
    """The protocol for one tokenizer: everything the platform says, as token ids. Without a tokenizer (a
    model behind a server) only the part in words is there: `messages` and `answer`. end_of_turn: the id that
    closes an assistant message; stop_ids: all ids at which sampling stops (Qwen2.5 has two). Pad may be one
    of them: nothing here ever looks at token values to find padding."""

    def __init__(self, tokenizer=None, mode: str = "interpreter", style: str = "full",
                 answer_format: str = "angle", extra_stop_ids: tuple[int, ...] = ()):
        self.tokenizer = tokenizer
        self.mode = mode
        self.style = style
        self.answer_format = answer_format
        self.head = head_prompt(mode, style, answer_format)
        if tokenizer is not None:
            self._learn_template(extra_stop_ids)

    def _learn_template(self, extra_stop_ids: tuple[int, ...]) -> None:
        """What does the template put after an assistant message, and round the user message behind it?"""
        tokenizer = self.tokenizer
        if not getattr(tokenizer, "chat_template", None):
            raise UserError("the tokenizer has no chat template: an instruct or chat model is needed")
        turns = {"role": "assistant", "content": "\x02A\x02"}, {"role": "user", "content": "\x02R\x02"}
        rendered = self._render(self.placed([*self.messages("Q"), *turns]))
        try:
            _, rest = rendered.split("\x02A\x02")
            self._before_results, self._after_results = rest.split("\x02R\x02")
        except ValueError:
            raise UserError("the chat template drops or repeats messages, so it has no turns") from None
        first = self._encode(self._before_results)
        self.stop_ids = frozenset(i for i in (tokenizer.eos_token_id, *extra_stop_ids) if i is not None)
        if not first or first[0] not in tokenizer.all_special_ids and first[0] not in self.stop_ids:
            raise UserError("the chat template does not close an assistant message with a special token")
        self.end_of_turn = first[0]
        self.stop_ids |= {self.end_of_turn}
        # Markers: special tokens, other added tokens that the template uses, and its words in brackets.
        added = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
        markers = {text for text, special in added.items() if special or text in rendered}
        markers |= set(re.findall(r"<[^<>\s]+>|\[/?[A-Z]+\]", self._before_results + self._after_results))
        self._markers = sorted(markers | set(tokenizer.all_special_tokens), key=len, reverse=True)

    def messages(self, question: str) -> list[dict]:
        """The conversation before the policy's first token, as it is kept: instructions, question."""
        return [{"role": "system", "content": self.head}, {"role": "user", "content": question}]

    def placed(self, messages: list[dict]) -> list[dict]:
        """A kept conversation as the model sees it: in style "after", the instructions after the question."""
        return one_message(messages, behind=True) if self.style == "after" else messages

    def answer(self, text: str) -> str | None:
        """The final answer in what the policy wrote in its last turn, or None."""
        return extract_answer(text, self.answer_format)

    def prompt_ids(self, question: str, head: str | None = None) -> list[int]:
        """Ids of the instructions (ours, or recorded ones), the question and the first turn's header."""
        system, user = self.messages(self.harmless(question))
        system["content"] = self.harmless(head or self.head)
        return self._encode(self._render(self.placed([system, user])))

    def user_ids(self, content: str, closed: bool = True) -> list[int]:
        """Ids from the end of one policy turn to the header of the next, with a user message between them.
        closed: the policy has written its end of turn itself, so it is not added again."""
        ids = self._encode(self._before_results + self.harmless(content) + self._after_results)
        return ids[1:] if closed else ids

    def results(self, output: str) -> str:
        """The message with the output of a program."""
        return RESULTS + output + filled(AGAIN.get(self.style, ""), self.answer_format)

    def results_ids(self, output: str, closed: bool) -> list[int]:
        """As `user_ids`, for the output of a program."""
        return self.user_ids(self.results(output), closed)

    def turn_ids(self, content: str) -> list[int]:
        """Ids of a finished assistant message, its end of turn included (for supervised examples)."""
        return self._encode(content) + [self.end_of_turn]

    def harmless(self, text: str) -> str:
        """`text` with the template's markers broken: tool output can neither open nor close a message."""
        for marker in self._markers:
            text = text.replace(marker, f"{marker[0]} {marker[1:]}")
        return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _render(self, messages: list[dict]) -> str:
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:  # e.g. "system role not supported"
            if messages[0]["role"] != "system":
                raise UserError(f"the chat template fails: {error}") from None
            return self._render(one_message(messages))
