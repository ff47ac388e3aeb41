//! The difference of two checkpoints as a servable LoRA adapter, and the independent check of one
