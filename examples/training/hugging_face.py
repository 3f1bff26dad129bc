"""The loss of seqloss in the Hugging Face Trainer. The Trainer counts the labels of all micro-batches of a step."""

import functools
import tempfile

import common
import numpy as np
import transformers

import seqloss


def rows():
    """Sentences of the shipped text: bytes as ids, and the same bytes as labels. The loss shifts them by one."""
    (*_, (parts, _)) = common.batches(1)
    for _, _, targets in parts:
        for row in targets[:, :64]:
            yield {"input_ids": np.where(row == common.PAD, 0, row).astype("int64"), "labels": row.astype("int64")}


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.set_seed(0)
    config = transformers.GPT2Config(
        vocab_size=256, n_embd=32, n_layer=1, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=transformers.GPT2LMHeadModel(config),
            args=transformers.TrainingArguments(
                output_dir=folder,
                max_steps=20,
                per_device_train_batch_size=4,
                gradient_accumulation_steps=4,
                learning_rate=1e-2,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                use_cpu=True,
                disable_tqdm=True,
            ),
            train_dataset=list(rows()),
            compute_loss_func=functools.partial(seqloss.torch.causal_lm_loss, label_smoothing=0.1),
        )
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(f"the loss falls: {losses[0] > losses[-1] + 1}")

# Output:
# the loss falls: True
