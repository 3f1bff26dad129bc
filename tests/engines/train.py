"""A program: the Trainer of Hugging Face on a tiny model, with its own loss and with ours.

``python train.py OUT MODEL-SMOOTHING...``, in one process or in each of several; the results go to the file OUT.
"""

import functools
import os
import sys
import tempfile

import numpy as np
import torch
import transformers

import seqloss

CLASSES, TIME = 61, 12
# How many labels each row has: micro-batches and processes get uneven numbers of them, and one row has none to predict.
LABELS = (9, 3, 12, 5, 2, 7, 12, 4, 1, 1, 6, 12, 8, 3, 11, 2, 5, 12, 4, 9, 7, 2, 12, 3)
PROCESSES = int(os.environ.get("WORLD_SIZE", "1"))


def rows():
    generator = torch.Generator().manual_seed(1)
    for count in LABELS:
        tokens = torch.randint(CLASSES, (TIME,), generator=generator)
        yield {"input_ids": tokens, "labels": tokens.where(torch.arange(TIME) < count, -100)}


def model(kind):
    torch.manual_seed(0)
    if kind == "llama":
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=CLASSES, **sizes))
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
    nothing_dropped = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=CLASSES, **sizes, **nothing_dropped))


def train(kind, folder, loss=None, **more):
    """Three steps of four micro-batches, in all processes together: the logged losses, and the parameters."""
    arguments = transformers.TrainingArguments(
        output_dir=folder,
        max_steps=3,
        per_device_train_batch_size=2,
        per_device_eval_batch_size=3,
        gradient_accumulation_steps=4 // PROCESSES,
        optim="sgd",
        learning_rate=0.1,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        ddp_backend="gloo" if PROCESSES > 1 else None,
        **more,
    )
    data = list(rows())
    trainer = transformers.Trainer(
        model=model(kind), args=arguments, train_dataset=data, eval_dataset=data, compute_loss_func=loss
    )
    start = torch.cat([x.detach().flatten().clone() for x in trainer.model.parameters()])
    trainer.train()
    evaluated = trainer.evaluate()["eval_loss"]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    end = torch.cat([x.detach().flatten() for x in trainer.model.parameters()])
    return {"losses": np.array([*losses, evaluated]), "parameters": end.numpy(), "moved": (end - start).numpy()}


def main(out, *runs):
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for run in runs:
            kind, _, smoothing = run.partition("-")
            eps = float(smoothing)
            ours = functools.partial(seqloss.torch.causal_lm_loss, label_smoothing=eps)
            for name, result in {
                "theirs": train(kind, folder, label_smoothing_factor=eps),
                "ours": train(kind, folder, ours),
            }.items():
                found |= {f"{run} {name} {key}": value for key, value in result.items()}
    if int(os.environ.get("RANK", "0")) == 0:
        np.savez(out, **found)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    main(*sys.argv[1:])
