"""Ask a checkpoint held-out questions: ``python -m pangu_ops.checkpoints.evaluate``.

Greedy, one question at a time, through the same path as any user's: load_model, chat format, generate.
"""

import argparse
import collections

from tqdm import tqdm

from pangu_ops import generate, load_model
from pangu_ops.checkpoints import PRO_MOE
from pangu_ops.checkpoints.questions import held_out_questions
from pangu_ops.models.tokenizer import Tokenizer

LONGEST = 32  # tokens of an answer; the longest right one has half of that


def answer(model, tokenizer, text):
    """What the model says to ``text``, or None when it does not come to an end."""
    ids = tokenizer.encode_chat([{"role": "user", "content": text}])
    end = model.config.eos_token_id
    new_ids = generate(model, ids, max_new_tokens=LONGEST, stop_ids=(end,))
    return tokenizer.decode(new_ids) if new_ids[-1] == end else None


def evaluate(path, questions):
    """Pairs of question and the answer that the checkpoint in ``path`` gives, in the dtype it is stored in."""
    model, tokenizer = load_model(path), Tokenizer(path)
    return [(question, answer(model, tokenizer, question.text)) for question in tqdm(questions, disable=None)]


def report(answered):
    """A line per kind, each wrong answer, and the total."""
    right = collections.defaultdict(list)
    for question, said in answered:
        right[question.kind].append(said == question.answer)
    lines = [f"{kind:14}{sum(marks):4} of {len(marks)}" for kind, marks in right.items()]
    for question, said in answered:
        if said != question.answer:
            lines.append(f"wrong: {question.text}  said {said}, not {question.answer}")
    total = sum(map(sum, right.values()))
    return "\n".join([*lines, f"{total} of {len(answered)} right: {100 * total / len(answered):.1f} %"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", nargs="?", default=PRO_MOE, help="checkpoint directory (default: the one that ships)")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="another seed asks other held-out questions")
    options = parser.parse_args()
    print(report(evaluate(options.path, held_out_questions(options.questions, options.seed))))
