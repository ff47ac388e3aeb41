//! An engine over a model in this process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::adapters::{AdapterVersion, Registry};
use super::gate::Gate;
use super::scheduler::Scheduler;
use super::sequence::Sequence;
use super::{
    AdapterCard, AdapterError, AdapterLoader, ConfigError, Engine, EngineConfig, Forward,
    Generation, ModelCard, Refused, Request, Stats,
};

/// How often a reader is looked after while all sequences wait for theirs.
const READERS: Duration = Duration::from_millis(2);

/// An [`Engine`] whose model runs on a thread of its own.
///
/// Dropping it ends all generations with an error and waits for the step that runs.
pub struct LocalEngine<F: Forward> {
    model: ModelCard,
    event_buffer: usize,
    loader: F::Loader,
    adapters: Mutex<Registry<F::Adapter>>,
    gate: Arc<Gate>,
    commands: Option<Sender<Command<F::Adapter>>>,
    thread: Option<JoinHandle<()>>,
}

enum Command<A> {
    Submit(Box<Sequence<A>>),
    /// An adapter generation that lost its name.
    Forget(u64),
}

impl<F: Forward> LocalEngine<F> {
    /// Starts the thread.
    ///
    /// The longest prompt and output together are what the model and its pool allow, or less if the configuration says so:
    /// every request that is let in fits the pool when it is alone.
    ///
    /// # Errors
    /// [`ConfigError`] for a limit that lets nothing through, or more than fits.
    pub fn start(forward: F, config: EngineConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let capacity = forward.capacity();
        let in_pool = capacity.blocks.saturating_mul(capacity.block_tokens);
        let fits = capacity.max_positions.min(in_pool);
        if fits < 2 {
            return Err(ConfigError::TooSmall {
                field: "positions of the pool of keys and values",
                found: fits,
                least: 2,
            });
        }
        let max_model_len = config.max_model_len.unwrap_or(fits);
        if max_model_len > fits {
            return Err(ConfigError::TooLarge {
                field: "max_model_len",
                found: max_model_len,
                most: fits,
            });
        }
        let model = ModelCard {
            vocab_size: capacity.vocab_size,
            max_model_len,
        };
        let loader = forward.loader();
        let scheduler = Scheduler::new(forward, config, model.max_model_len);
        let stats = scheduler.stats();
        let gate = Arc::new(Gate::new(config.max_waiting, config.max_num_seqs, stats));
        let (commands, receiver) = mpsc::channel();
        let runner = Runner {
            scheduler,
            commands: receiver,
            gate: Arc::clone(&gate),
            last_end: None,
        };
        let thread = thread::Builder::new()
            .name("xgraft-engine".to_owned())
            .spawn(move || runner.run())
            .map_err(|error| ConfigError::Thread(error.to_string()))?;
        Ok(Self {
            model,
            event_buffer: config.event_buffer,
            loader,
            adapters: Mutex::new(Registry::new()),
            gate,
            commands: Some(commands),
            thread: Some(thread),
        })
    }

    fn registry(&self) -> MutexGuard<'_, Registry<F::Adapter>> {
        self.adapters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, request: &Request) -> Result<(), Refused> {
        let ModelCard {
            vocab_size,
            max_model_len: limit,
        } = self.model;
        let prompt = request.prompt.len();
        if prompt == 0 {
            return Err(Refused::EmptyPrompt);
        }
        let least = prompt + request.generated.len().max(request.max_tokens.min(1));
        if least > limit {
            return Err(Refused::TooLong { prompt, limit });
        }
        let biased = request.sampling.logit_bias.iter().map(|(id, _)| id);
        let ids = request.prompt.iter().chain(&request.generated);
        match ids.chain(biased).find(|&&id| id as usize >= vocab_size) {
            Some(&id) => Err(Refused::UnknownToken { id, vocab_size }),
            None => Ok(()),
        }
    }

    fn version(
        &self,
        request: &Request,
    ) -> Result<Option<Arc<AdapterVersion<F::Adapter>>>, Refused> {
        let Some(name) = &request.adapter else {
            return Ok(None);
        };
        match self.registry().get(name) {
            Some(version) => Ok(Some(Arc::clone(version))),
            None => Err(Refused::UnknownAdapter(name.clone())),
        }
    }

    fn send(&self, command: Command<F::Adapter>) -> Result<(), Refused> {
        let gone = || Refused::Failed("its thread has ended".to_owned());
        let commands = self.commands.as_ref().ok_or_else(gone)?;
        commands.send(command).map_err(|_| gone())
    }
}

impl<F: Forward> Engine for LocalEngine<F> {
    fn model(&self) -> &ModelCard {
        &self.model
    }

    fn submit(&self, request: Request) -> Result<Generation, Refused> {
        self.check(&request)?;
        let ticket = self.gate.enter()?;
        let version = self.version(&request)?;
        let (sender, events) = tokio::sync::mpsc::channel(self.event_buffer);
        let sequence = Sequence::new(request, version, ticket, sender);
        self.send(Command::Submit(Box::new(sequence)))?;
        Ok(Generation { events })
    }

    fn adapters(&self) -> Vec<AdapterCard> {
        self.registry().cards()
    }

    fn load_adapter(
        &self,
        name: &str,
        dir: &Path,
        replace: bool,
    ) -> Result<AdapterCard, AdapterError> {
        if !replace && self.registry().get(name).is_some() {
            return Err(AdapterError::Exists(name.to_owned()));
        }
        let loaded = self.loader.load(dir);
        let loaded = loaded.map_err(|error| AdapterError::Invalid(error.to_string()))?;
        let (card, old) = self.registry().insert(name, dir, loaded, replace)?;
        if let Some(old) = old {
            // Without the thread there is nothing to forget.
            let _ = self.send(Command::Forget(old));
        }
        Ok(card)
    }

    fn unload_adapter(&self, name: &str) -> Result<(), AdapterError> {
        let old = self.registry().remove(name)?;
        // As above.
        let _ = self.send(Command::Forget(old));
        Ok(())
    }

    fn stats(&self) -> Stats {
        self.gate.stats()
    }

    fn drain(&self) {
        self.gate.drain();
    }

    fn failure(&self) -> Option<String> {
        self.gate.failure()
    }
}

impl<F: Forward> Drop for LocalEngine<F> {
    fn drop(&mut self) {
        // Without a sender the thread ends after its step.
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // It has caught its own panics.
            let _ = thread.join();
        }
    }
}

impl<F: Forward> std::fmt::Debug for LocalEngine<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalEngine")
            .field("model", &self.model)
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

/// The compute thread.
struct Runner<F: Forward> {
    scheduler: Scheduler<F>,
    commands: Receiver<Command<F::Adapter>>,
    gate: Arc<Gate>,
    last_end: Option<Instant>,
}

impl<F: Forward> Runner<F> {
    fn run(mut self) {
        let mut worked = true;
        while self.receive(worked) {
            let ended = self.scheduler.ended();
            let step = catch_unwind(AssertUnwindSafe(|| self.scheduler.step()));
            match step {
                Ok(Ok(any)) => worked = any,
                Ok(Err(error)) => return self.fail(&error.to_string()),
                Err(panic) => return self.fail(&message(panic.as_ref())),
            }
            self.publish(ended);
        }
        self.scheduler.end_all("the engine was shut down");
    }

    /// Takes the commands that are there, and waits for one if there is nothing to do; false when none can come.
    fn receive(&mut self, worked: bool) -> bool {
        if self.scheduler.is_idle() {
            self.last_end = None;
            match self.commands.recv() {
                Ok(command) => self.take(command),
                Err(_) => return false,
            }
        } else if !worked {
            match self.commands.recv_timeout(READERS) {
                Ok(command) => self.take(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.take(command),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn take(&mut self, command: Command<F::Adapter>) {
        match command {
            Command::Submit(sequence) => self.scheduler.push(*sequence),
            Command::Forget(generation) => self.scheduler.forget(generation),
        }
    }

    fn publish(&mut self, ended_before: u64) {
        let ended = self.scheduler.ended() - ended_before;
        if let Ok(ended @ 1..) = u32::try_from(ended) {
            let now = Instant::now();
            if let Some(last) = self.last_end.replace(now) {
                self.gate.ended_after(now.duration_since(last) / ended);
            }
        }
        self.gate
            .publish(self.scheduler.stats(), self.scheduler.idle());
    }

    /// Ends what is there with an error, and what still comes.
    fn fail(mut self, message: &str) {
        self.gate.fail(message);
        let message = format!("the engine failed: {message}");
        self.scheduler.end_all(&message);
        self.gate
            .publish(self.scheduler.stats(), self.scheduler.idle());
        while let Ok(command) = self.commands.recv() {
            self.take(command);
            self.scheduler.end_all(&message);
        }
    }
}

/// What a panic said.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".to_owned())
}
