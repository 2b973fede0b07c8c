"""The ``pangu`` command."""

import argparse
import os
import sys
import time

from pangu_ops.thinking.modes import MODES

SAMPLING = ("temperature", "top_k", "top_p")
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def main(argv=None):
    """Run the command line ``argv`` and return its exit status; what cannot be done is said in one line on stderr."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started the command
            setattr(sys, name, open(os.devnull, mode))
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if rest and not args.forwards:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character must not end the answer

    from pangu_ops.models.config import ModelError

    try:
        status = args.run(rest) if args.forwards else args.run(args)
        sys.stdout.flush()
        return status or 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads any more; the interpreter flushes stdout once more at its end, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ModelError, OSError) as error:
        print(f"pangu: {error}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error):  # what torch's allocator raises
            raise
        print("pangu: the model and its context must fit into memory, came too little", file=sys.stderr)
        return 1


def build_parser():
    parser = argparse.ArgumentParser(prog="pangu", description="Operators and models of Huawei's Pangu family.")
    parser.set_defaults(forwards=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    model = argparse.ArgumentParser(add_help=False)
    which = model.add_mutually_exclusive_group()
    which.add_argument("--model", metavar="DIR", help="checkpoint directory (default: one that ships)")
    which.add_argument(
        "--family",
        choices=("embedded", "pro-moe"),
        help="the shipped checkpoint to take (default: embedded where --thinking is given, else pro-moe)",
    )
    model.add_argument("--thinking", choices=MODES, help="fast, slow, auto (by the question) or left to the model")
    model.add_argument("--max-thinking-tokens", type=int, metavar="N", help="thoughts before it must answer")
    model.add_argument("--max-new-tokens", type=int, default=256, metavar="N", help="answer length (default: 256)")
    # without these, what the checkpoint's generation_config.json says
    model.add_argument("--temperature", type=float, metavar="T", help="0 takes the likeliest token")
    model.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest, 0 from all")
    model.add_argument("--top-p", type=float, metavar="P", help="draw from the likeliest that hold P")
    model.add_argument("--seed", type=int, help="the same seed gives the same answer")
    model.add_argument(
        "--draft",
        metavar="HOW",
        help="speculative decoding: ngram (by what the text has said before), firp (by the model's own maps, "
        "firp.safetensors beside it), model (the small one that ships), or the directory of a smaller model",
    )
    model.add_argument("--draft-tokens", type=int, metavar="N", help="longest draft (default: as HOW has it)")
    model.add_argument("--dtype", choices=DTYPES, help="default: the checkpoint's")
    model.add_argument("--device", help="cpu, cuda, npu, cuda:1 ... (default: a GPU or an NPU where one is visible)")

    one = commands.add_parser("generate", parents=[model], help="answer one prompt")
    task = one.add_mutually_exclusive_group(required=True)
    task.add_argument("--prompt", metavar="TEXT")
    task.add_argument("--dry-run", action="store_true", help="check the checkpoint's headers and print its sizes")
    one.add_argument("--raw", action="store_true", help="continue the prompt as it is, without the chat format")
    one.set_defaults(run=generate)
    commands.add_parser("chat", parents=[model], help="talk, until /exit or the end of input").set_defaults(run=chat)
    commands.add_parser("info", help="which implementation each op runs here").set_defaults(run=info)
    for name, run, text in (("check", check, "compare every op with its reference"), ("bench", bench, "time the ops")):
        commands.add_parser(name, add_help=False, help=text).set_defaults(run=run, forwards=True)
    return parser


def generate(args):
    from pangu_ops.models.config import ModelError

    if args.dry_run:
        print(dry_run(checkpoint(args)))
        return
    if args.raw and (args.thinking or args.max_thinking_tokens is not None):
        raise ModelError("generate: thinking options must be left out with --raw, which knows no thoughts, came some")
    session = Session(args)
    if args.raw:
        session.continue_text(args.prompt)
    else:
        session.answer(args.prompt)


def chat(args):
    from pangu_ops.models.config import ModelError

    session = Session(args)
    sys.stdin.reconfigure(errors="replace")
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        print(prompt, end="", flush=True)
        line = sys.stdin.readline()
        text = line.strip()
        if not line or text == "/exit":
            return
        if text:
            try:
                session.answer(text)
            except ModelError as error:
                print(f"pangu: {error}", file=sys.stderr)


def info(args):
    from pangu_ops.info import report

    print(report())


def check(argv):
    from pangu_ops.testing.check import main

    return main(argv)


def bench(argv):
    from pangu_ops.testing.bench import main

    return main(argv)


class Session:
    """A loaded model, its tokenizer and the options of the command line."""

    def __init__(self, args):
        import torch

        from pangu_ops.chat import Chat, check_thinking
        from pangu_ops.generate import check_options, generation_defaults
        from pangu_ops.models.config import read_config
        from pangu_ops.models.loader import load_model
        from pangu_ops.models.tokenizer import Tokenizer

        given = {name: getattr(args, name) for name in SAMPLING if getattr(args, name) is not None}
        # before the model, which may take minutes to load
        check_options(args.max_new_tokens, seed=args.seed, **dict(temperature=0.0, top_k=0, top_p=1.0) | given)
        path = checkpoint(args)
        config = read_config(path)
        thinking = args.thinking or "slow"  # the released models' own default, and no tag
        check_thinking(config, thinking, args.max_thinking_tokens)
        defaults = generation_defaults(path, config)
        self.options = {"max_new_tokens": args.max_new_tokens, "seed": args.seed} | defaults | given
        self.tokenizer = Tokenizer(path, config.bos_token_id)
        place = device(args)
        self.drafter = self.options["speculative"] = drafter(args, path, place)
        self.model = load_model(path, place, getattr(torch, DTYPES[args.dtype]) if args.dtype else None)
        if self.drafter is not None:
            self.drafter.check(self.model)
        self.chat = Chat(self.model, self.tokenizer, thinking, args.max_thinking_tokens)

    def answer(self, text):
        """Print the answer to ``text`` as it comes; what the model thinks and how fast it was go to stderr."""
        last = "answer"

        def show(part, piece):
            nonlocal last
            if piece:
                if (part, last) == ("answer", "thinking"):
                    print(file=sys.stderr, flush=True)  # the thoughts end
                last = part
                print(piece, end="", flush=True, file=sys.stdout if part == "answer" else sys.stderr)

        reply = self.chat.ask(text, show, **self.options)
        if last == "thinking":
            print(file=sys.stderr, flush=True)
        print(flush=True)
        if reply.decision is not None:
            print(f"thinking {reply.decision.explain()}", file=sys.stderr)
        new_tokens = reply.prompt_tokens - reply.cached_tokens
        speed(new_tokens, reply.prefill_seconds, reply.new_ids, reply.decode_seconds, self.drafter)

    def continue_text(self, text):
        """Print what follows ``text``, taken as it is."""
        from pangu_ops.generate import generate
        from pangu_ops.models.tokenizer import StreamDecoder

        ids, decoder, times = self.tokenizer.encode(text), StreamDecoder(self.tokenizer), [time.perf_counter()]

        def on_token(token):
            times.append(time.perf_counter())
            print(decoder.push(token), end="", flush=True)

        new_ids = generate(self.model, ids, callback=on_token, **self.options)
        print(decoder.finish(), flush=True)
        speed(len(ids), times[1] - times[0], new_ids, times[-1] - times[1], self.drafter)


def device(args):
    """Where the model runs: what ``--device`` says, otherwise a GPU or an NPU where one is visible."""
    import torch

    from pangu_ops.info import absent
    from pangu_ops.models.config import ModelError

    kinds = {"cuda": "CUDA", "npu": "NPU"}
    name = args.device or next((name for name, kind in kinds.items() if not absent(kind)), "cpu")
    kind = kinds.get(name.partition(":")[0])
    reason = absent(kind) if kind else ""
    try:
        chosen = torch.device("cpu" if reason else name)  # torch knows npu with torch_npu only
    except RuntimeError:
        raise ModelError(f"device: --device must be cpu, cuda, npu, cuda:N or npu:N, came {name}") from None
    if kind and not reason:
        count = torch.get_device_module(chosen).device_count()
        reason = "" if (chosen.index or 0) < count else f"{count} devices are visible"
    if reason or chosen.type not in ("cpu", *kinds):
        why = f", where {reason}" if reason else ""
        raise ModelError(f"device: --device must be one that the models run on here, came {name}{why}")
    return chosen


def drafter(args, path, place):
    """What ``--draft`` asks for, for the model in ``path``; None without it."""
    from pangu_ops.checkpoints import DRAFT
    from pangu_ops.models.config import ModelError
    from pangu_ops.speculative import DraftModel, Firp, NGram

    if args.draft is None:
        if args.draft_tokens is not None:
            raise ModelError("draft: --draft-tokens must come with --draft, came without it")
        return None
    if args.draft == "ngram":
        made = NGram()
    elif args.draft == "firp":
        made = Firp.load(path, place)
    else:
        made = DraftModel.load(DRAFT if args.draft == "model" else args.draft, path, device=place)
    if args.draft_tokens is not None:
        if args.draft_tokens < 1:
            raise ModelError(f"draft: --draft-tokens must be at least 1, came {args.draft_tokens}")
        made.most = min(made.most, args.draft_tokens) if made.in_pass else args.draft_tokens
    return made


def speed(prompt_tokens, prefill_seconds, new_ids, decode_seconds, drafter):
    line = f"prompt {prompt_tokens} tokens, {prompt_tokens / prefill_seconds:.1f} tokens/s"
    if decode_seconds > 0:
        line += f"; answer {len(new_ids)} tokens, {(len(new_ids) - 1) / decode_seconds:.1f} tokens/s"
    if drafter is not None:
        line += f"; drafts: {drafter.accepted} of {drafter.drafted} tokens accepted in {drafter.passes} passes"
        drafter.passes = drafter.drafted = drafter.accepted = 0
    print(line, file=sys.stderr)


def checkpoint(args):
    """The directory of ``--model``, or that of the checkpoint that ships and fits the other options."""
    if args.model is not None:
        return args.model
    from pangu_ops.checkpoints import EMBEDDED, PRO_MOE

    family = args.family or ("embedded" if args.thinking else "pro-moe")
    return EMBEDDED if family == "embedded" else PRO_MOE


def dry_run(path):
    """What ``--dry-run`` prints: the sizes of the model in the directory ``path``, and what of it was checked."""
    from pangu_ops.models.config import ProMoEConfig
    from pangu_ops.models.loader import inspect

    summary = inspect(path)
    config = summary.config
    if isinstance(config, ProMoEConfig):
        inside = f"{config.num_experts} experts in {config.num_groups} groups, "
        inside += f"{config.topk_per_group} of each group per token"
    else:
        inside = f"feed-forward {config.intermediate_size}"
    lines = [
        f"{config.NAME}: {config.num_hidden_layers} layers, hidden {config.hidden_size}, {inside}",
        f"parameters  {summary.total:,} total ({scaled(summary.total, 2, 'B', 'M')}), "
        f"{summary.active:,} active per token ({scaled(summary.active, 2, 'B', 'M')})",
        f"{'memory':12}{'weights':>14}{'KV cache per token':>22}",
    ]
    for name, size in (("fp32", 4), ("bf16", 2), ("int8", 1)):
        weights = scaled(summary.total * size, 3, "GB", "MB")
        lines.append(f"  {name:10}{weights:>14}{summary.kv_values * size:>16,} bytes")
    if summary.tensors:
        lines.append(f"checked     {summary.tensors:,} tensors in {summary.files:,} files: all as expected")
    else:
        lines.append("checked     config.json only: there are no weights beside it")
    return "\n".join(lines)


def scaled(number, digits, billions, millions):
    return f"{number / 1e9:.{digits}f} {billions}" if number >= 1e9 else f"{number / 1e6:.{digits}f} {millions}"


if __name__ == "__main__":
    sys.exit(main())
