"""LoRA adapters as peft writes them: a directory with adapter_config.json and adapter_model.safetensors."""
