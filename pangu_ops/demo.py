"""``make demo``: the shipped models answer a few questions, through ``torch.ops.pangu.*``.

Pangu Pro MoE shows how evenly its groups of experts are loaded, next to ordinary top-8 routing, and answers again with
a smaller model drafting for it; Pangu Embedded thinks fast or slowly, as each question asks for.
"""

import time

import torch

from pangu_ops import generate, imbalance_score, load_model, topk_gating
from pangu_ops.backends import current
from pangu_ops.balance import device_load
from pangu_ops.chat import Chat
from pangu_ops.checkpoints import DRAFT, EMBEDDED, PRO_MOE
from pangu_ops.models.tokenizer import StreamDecoder, Tokenizer
from pangu_ops.speculative import DraftModel

QUESTIONS = (
    "What is 47 + 38?",
    "Which is larger, 532 or 528?",
    "Sort in rising order: 52, 17, 38",
    "How many days are in February 2024?",
    "It is Sunday, March 17. What is tomorrow?",
    "What time is 5 hours after 21:50?",
    "What are the opposites of hot and early?",
    "Write 427 in words.",
    "今天是3月17日星期日。明天呢？",
)
THINKING = ("What is 7 + 8?", "What is 47 * 86?")


def ask(model, tokenizer, question):
    """Print the answer as it comes; all token ids of the conversation, and how many of them the model made."""
    ids = tokenizer.encode_chat([{"role": "user", "content": question}])
    decoder = StreamDecoder(tokenizer)
    print(f"  {question}  ", end="", flush=True)
    new_ids = generate(
        model,
        ids,
        max_new_tokens=32,
        stop_ids=(model.config.eos_token_id,),
        callback=lambda token: print(decoder.push(token), end="", flush=True),
    )
    print(decoder.finish())
    return ids + new_ids, len(new_ids)


def group_loads(model, conversations):
    """Name of a routing to the expert choices ``[T, 8]`` that it makes, over every layer and token."""
    config, chosen = model.config, {"MoGE, 1 of each group": [], "ordinary top-8": []}
    for ids in conversations:
        routing = []
        model(torch.tensor([ids]), routing=routing)
        for logits, expert_ids in routing:
            chosen["MoGE, 1 of each group"].append(expert_ids)
            chosen["ordinary top-8"].append(topk_gating(logits, config.num_experts_per_tok)[1])
    return {name: torch.cat(ids) for name, ids in chosen.items()}


def show_balance():
    model, tokenizer = load_model(PRO_MOE), Tokenizer(PRO_MOE)
    config = model.config
    print(
        f"Pangu Pro MoE, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {config.num_experts} "
        f"experts in {config.num_groups} groups; ops run through: {current()}\n"
    )
    start = time.perf_counter()
    conversations, made = zip(*(ask(model, tokenizer, question) for question in QUESTIONS), strict=True)
    seconds = time.perf_counter() - start
    print(f"\n{sum(made)} tokens made, {sum(made) / seconds:.0f} tokens/s, prompts included\n")

    print(f"{'load of the groups':24}{'max / mean':>12}{'imbalance score':>18}")
    for name, expert_ids in group_loads(model, conversations).items():
        load = device_load(expert_ids, config.num_experts, config.num_groups)
        score = imbalance_score(expert_ids, config.num_experts, config.num_groups)
        print(f"{name:24}{load.max() / load.double().mean():>12.2f}{score:>18.2f}")
    print("\nWith one device per group, the busiest one sets the pace: at 1.00 none waits.")


def show_drafting():
    model, tokenizer, drafter = load_model(PRO_MOE), Tokenizer(PRO_MOE), DraftModel.load(DRAFT, PRO_MOE)
    made = 0
    for question in QUESTIONS:
        ids = tokenizer.encode_chat([{"role": "user", "content": question}])
        stop_ids = (model.config.eos_token_id,)
        made += len(generate(model, ids, max_new_tokens=32, stop_ids=stop_ids, speculative=drafter))
    print(
        f"\nThe same questions with a draft model: {made} tokens in {drafter.passes} passes of Pangu Pro MoE, "
        f"{drafter.accepted} of {drafter.drafted} drafted tokens accepted"
    )


def show_thinking():
    model, tokenizer = load_model(EMBEDDED), Tokenizer(EMBEDDED)
    print(f"\nPangu Embedded, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, thinking: auto")
    chat = Chat(model, tokenizer, "auto")
    for question in THINKING:
        print(f"\n  {question}")
        reply = chat.ask(question)
        print(f"    chosen    {reply.decision.explain()}")
        if reply.thinking:
            print(f"    thinking  {reply.thinking}")
        milliseconds = 1000 * (reply.prefill_seconds + reply.decode_seconds)
        print(f"    answer    {reply.text}  ({len(reply.new_ids)} tokens, {milliseconds:.0f} ms)")


def main():
    show_balance()
    show_drafting()
    show_thinking()


if __name__ == "__main__":
    main()
