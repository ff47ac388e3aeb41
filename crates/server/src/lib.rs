//! An OpenAI-compatible server over a quantized model and many LoRA adapters.
//!
//! Three parts, each behind a trait, so that each is tested without the next:
//! HTTP asks an [`Engine`](engine::Engine) for generations; the engine's scheduler asks a [`Forward`](engine::Forward)
//! for logits; the model is one such `Forward`, a scripted double another.
//!
//! Architecture invariants: the engine never sees text, only token ids; nothing is computed on an async worker;
//! prompts and outputs are neither logged nor stored.

pub mod engine;
pub mod sampling;
