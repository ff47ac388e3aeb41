//! Fold a LoRA adapter into a checkpoint of any stored format
