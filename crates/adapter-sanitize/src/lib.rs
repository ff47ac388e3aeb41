//! Check and repair a LoRA adapter against the rules of a serving engine
