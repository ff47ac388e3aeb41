//! Asks an OpenAI-compatible endpoint the questions of a benchmark, and scores what comes back.
//!
//! The key decision is that the log of events is the only truth: a process appends what happened to a file of its own, and whatever
//! else there is (tables, answers in order, what is left to do) is made of the logs again. A process may be killed at any
//! moment, and any number of them may work on one run. The alternative, a table that is updated, has to be right after every
//! crash of whoever writes it.
//!
//! Modules: [`task`] (how a question is put and what an answer is worth), [`client`] (one exchange), [`run`] (log, claims and
//! workers), [`agent`] (the loop of A1), [`sandbox`] (the interpreter of its programs); of finished runs
//! [`attempts`] (what the logs have), [`browse`] (the same for a reader), [`annotate`] and [`review`] (what an answer is worth beyond its form), and [`stats`] (what
//! the counts of several arms say).
//!
//! **Invariant:** it knows only HTTP: it has structs of its own for requests and answers, so that a mistake on the wire cannot
//! hide on both sides. A failure of the endpoint is never a score.

pub mod agent;
pub mod annotate;
pub mod attempts;
pub mod browse;
pub mod client;
pub mod review;
pub mod run;
pub mod sandbox;
pub mod stats;
pub mod task;
