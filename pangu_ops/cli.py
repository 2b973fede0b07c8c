"""The ``pangu`` command."""

import argparse
import os
import sys
import time

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
    model.add_argument("--model", metavar="DIR", help="checkpoint directory (default: the one that ships)")
    model.add_argument("--max-new-tokens", type=int, default=256, metavar="N", help="answer length (default: 256)")
    model.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 takes the likeliest token")
    model.add_argument("--top-k", type=int, default=0, metavar="K", help="draw from the K likeliest, 0 from all")
    model.add_argument("--top-p", type=float, default=1.0, metavar="P", help="draw from the likeliest that hold P")
    model.add_argument("--seed", type=int, help="the same seed gives the same answer")
    model.add_argument("--dtype", choices=DTYPES, help="default: the checkpoint's")

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
    if args.dry_run:
        print(dry_run(checkpoint(args)))
        return
    session = Session(args)
    if args.raw:
        session.answer(session.tokenizer.encode(args.prompt))
    else:
        session.answer(session.tokenizer.encode_chat([{"role": "user", "content": args.prompt}]))


def chat(args):
    from pangu_ops.models.config import ModelError

    session = Session(args)
    sys.stdin.reconfigure(errors="replace")
    messages, prompt = [], "> " if sys.stdin.isatty() else ""
    while True:
        print(prompt, end="", flush=True)
        line = sys.stdin.readline()
        text = line.strip()
        if not line or text == "/exit":
            return
        if text:
            asked = [*messages, {"role": "user", "content": text}]
            ids = session.tokenizer.encode_chat(asked)
            while len(asked) > 1 and 2 * len(ids) > session.model.config.max_position_embeddings:
                del asked[:2]  # the oldest question and answer: the new answer needs room
                ids = session.tokenizer.encode_chat(asked)
            try:
                messages = [*asked, {"role": "assistant", "content": session.answer(ids)}]
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

        from pangu_ops.generate import check_options
        from pangu_ops.models.config import read_config
        from pangu_ops.models.loader import load_model
        from pangu_ops.models.tokenizer import Tokenizer

        names = ("max_new_tokens", "temperature", "top_k", "top_p", "seed")
        self.options = {name: getattr(args, name) for name in names}
        check_options(**self.options)  # before the model, which may take minutes to load
        path = checkpoint(args)
        self.tokenizer = Tokenizer(path, read_config(path).bos_token_id)
        self.model = load_model(path, dtype=getattr(torch, DTYPES[args.dtype]) if args.dtype else None)

    def answer(self, ids):
        """Print the answer to ``ids`` as it comes, and its speed on stderr; the answer's text."""
        from pangu_ops.generate import generate
        from pangu_ops.models.tokenizer import StreamDecoder

        decoder, parts, times = StreamDecoder(self.tokenizer), [], [time.perf_counter()]

        def show(text):
            parts.append(text)
            print(text, end="", flush=True)

        def on_token(token):
            times.append(time.perf_counter())
            show(decoder.push(token))

        generate(self.model, ids, stop_ids=(self.model.config.eos_token_id,), callback=on_token, **self.options)
        show(decoder.finish())
        print(flush=True)
        start, first, last = times[0], times[1], times[-1]
        speed = f"prompt {len(ids)} tokens, {len(ids) / (first - start):.1f} tokens/s"
        if last > first:
            speed += f"; answer {len(times) - 1} tokens, {(len(times) - 2) / (last - first):.1f} tokens/s"
        print(speed, file=sys.stderr)
        return "".join(parts)


def checkpoint(args):
    """The directory of ``--model``, or that of the checkpoint that ships."""
    if args.model is not None:
        return args.model
    from pangu_ops.checkpoints import PRO_MOE

    return PRO_MOE


def dry_run(path):
    """What ``--dry-run`` prints: the sizes of the model in the directory ``path``, and what of it was checked."""
    from pangu_ops.models.loader import inspect

    summary = inspect(path)
    config = summary.config
    lines = [
        f"Pangu Pro MoE: {config.num_hidden_layers} layers, hidden {config.hidden_size}, {config.num_experts} experts "
        f"in {config.num_groups} groups, {config.topk_per_group} of each group per token",
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
