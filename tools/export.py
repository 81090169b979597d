"""A trained policy as an ordinary model folder, for transformers, vLLM and whatever else reads one.

    python r1ci.py export --run runs/3b/grpo --out r1ci-3b
    python r1ci.py export --run runs/3b/grpo --out adapters/3b --adapter-only   a run folder to pass on

An adapter was trained beside a base that is stored in 4 bits. Merging it into *those* weights would round it
to 4 bits as well, and much of what was learned would be gone. So the base is loaded again, unquantised, and
the adapter is added there: W + scale B A. What comes out differs from what was trained by the quantisation
error of the base, which the adapter has never been without; it is the usual price of QLoRA, and small.

Beside the weights lies a model card, README.md (card.py).
"""
import contextlib
import os
from pathlib import Path

from safetensors import SafetensorError

from runs import (
    PRESETS,
    Parser,
    UserError,
    check_writable,
    read_json,
    run_name,
    settings_of_run,
    write_json,
    writing,
)
from tools.card import card


def check(run: Path, out: Path) -> dict:
    """The run's settings. UserError if there is nothing to export, or something is in the way."""
    import models
    if not models.exists(run):
        raise UserError(f"{run} holds no policy: give a stage's folder, such as runs/3b/grpo")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not an empty folder: choose another --out")
    check_writable(out / "config.json")
    config = settings_of_run(run)
    if config is None:
        raise UserError(f"{run} has no config.json: give a stage's folder, such as runs/3b/grpo")
    return config


@contextlib.contextmanager
def written_whole(out: Path):
    """Yields another name for the folder `out`, which is there only when all is written."""
    fresh = out.with_name(f"{out.name}.{os.getpid()}.new")
    with writing(out, SafetensorError):
        out.parent.mkdir(parents=True, exist_ok=True)
        yield fresh
        os.replace(fresh, out)  # an empty folder may be replaced


def export(run: Path, out: Path, dtype: str | None = None, device: str = "cpu") -> str:
    """Write the merged model, its tokenizer and chat template to the folder `out`; the type of its weights.

    dtype: bfloat16 or float32; None: the run's --dtype. UserError: see `check`.
    """
    import models
    config = check(run, out)
    dtype = dtype or config["dtype"]
    policy, tokenizer = models.load(
        config["model"], checkpoint_folder=run, dtype=dtype, quantize="none", device=models.device_of(device),
        random_weights=config["random_weights"], seed=config["seed"], trainable=False)
    if models.saved(run, "adapter").is_dir():
        policy = policy.merge_and_unload(safe_merge=True)  # refuses weights that are not finite
    with written_whole(out) as fresh:
        policy.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        (fresh / "README.md").write_text(card(run, config), "utf-8")
    return dtype


def export_adapter(run: Path, out: Path) -> None:
    """Write a run's adapter to `out`: a run folder again, in bfloat16, without tokenizer and without paths of
    this machine. UserError: see `check`, or no adapter."""
    import torch
    from safetensors.torch import load_file, save_file

    import models
    config = check(run, out)
    source = models.saved(run, "adapter")
    if not source.is_dir():
        raise UserError(f"{run} holds all parameters, not an adapter: leave --adapter-only out")
    name = config.get("preset") or run_name(config["model"])
    plain = {key: ",".join(Path(part).name for part in value.split(",")) if isinstance(value, str) else value
             for key, value in config.items()} | {"model": name}
    about = read_json(source / "adapter_config.json", dict)
    about["base_model_name_or_path"] = PRESETS.get(name, {}).get("hub") or name
    weights = load_file(source / "adapter_model.safetensors")
    with written_whole(out) as fresh:
        (fresh / "adapter").mkdir(parents=True)
        save_file({key: value.to(torch.bfloat16) for key, value in weights.items()},
                  fresh / "adapter/adapter_model.safetensors", {"format": "pt"})
        for path, content in (("adapter/adapter_config.json", about), ("config.json", plain)):
            write_json(fresh / path, content)
        (fresh / "README.md").write_text(card(run, plain), "utf-8")


def main(argv: list[str] | None = None) -> None:
    """Merge a run's policy into one folder that AutoModelForCausalLM.from_pretrained loads."""
    parser = Parser("r1ci.py export", main.__doc__)
    parser.add_argument("--run", type=Path, required=True, help="a stage's folder, such as runs/3b/grpo")
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet, or is "
                        "empty")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"),
                        help="of the weights (default: the run's --dtype)")
    parser.add_argument("--device", default="cpu", help="where the merging is done")
    parser.add_argument("--adapter-only", action="store_true", help="only what was trained, in bfloat16")
    args = parser.parse_args(argv)
    if args.adapter_only:
        export_adapter(args.run, args.out)
        print(f"exported to {args.out}: evaluate.py --run {args.out} judges it")
        return
    dtype = export(args.run, args.out, args.dtype, args.device)
    print(f"exported to {args.out} ({dtype}): AutoModelForCausalLM.from_pretrained({str(args.out)!r}) loads "
          "it")
