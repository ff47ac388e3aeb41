//! Model and LoRA adapter directories in and out: sharded safetensors, configs, quantized layouts, tensor roles
