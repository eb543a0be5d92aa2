"""A judge that runs in the job: any transformers chat model, greedy."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from gapgrid.engines.tokens import load_tokenizer


class TransformersJudge:
    """Loads the model once; `ask` answers a batch."""

    def __init__(self, model: str, revision: str | None, max_tokens: int) -> None:
        from gapgrid.engines import hub

        folder = Path(model) if Path(model).is_dir() else hub.snapshot(model, revision)
        cuda = torch.cuda.is_available()
        self.device = "cuda" if cuda else "cpu"
        self.tokenizer = load_tokenizer(folder)
        self.tokenizer.padding_side = "left"
        dtype = torch.bfloat16 if cuda else torch.float32
        model_: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        self.model = model_.to(self.device).eval()
        self.max_tokens = max_tokens

    def ask(self, prompts: list[str]) -> list[str]:
        """Greedy replies through the judge's own chat template."""
        texts = self.tokenizer.apply_chat_template(
            [[{"role": "user", "content": prompt}] for prompt in prompts], tokenize=False, add_generation_prompt=True
        )
        batch = self.tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt").to(self.device)
        with torch.inference_mode():
            out = self.model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=self.max_tokens,
                do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        return self.tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
