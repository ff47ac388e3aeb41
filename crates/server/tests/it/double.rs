//! An engine that does what a script says.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use xgraft_server::engine::{
    AdapterCard, AdapterError, Engine, Event, Finish, FinishReason, Generation, Logprobs,
    ModelCard, Refused, Request, Stats, TokenEvent, TokenId, TopLogprobs, Usage,
};

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// These tokens, and then the end token, each after the pause.
    Say(Vec<TokenId>, Duration),
    /// These tokens if the constraint allows them, otherwise the first that it allows.
    Obey(Vec<TokenId>),
    /// The same token for ever.
    Forever(TokenId, Duration),
    /// These tokens, and then this end.
    End(Vec<TokenId>, FinishReason),
    /// These tokens, and then the engine is gone.
    Die(Vec<TokenId>),
    /// Nothing for ever.
    Hang,
    /// Not even that.
    Refuse(Refused),
}

/// What was asked for, as far as tests look at it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) prompt: Vec<TokenId>,
    pub(crate) generated: Vec<TokenId>,
    pub(crate) adapter: Option<String>,
    pub(crate) sampling: xgraft_server::engine::Sampling,
    pub(crate) choice: u32,
    pub(crate) max_tokens: usize,
    pub(crate) min_tokens: usize,
    pub(crate) stop_tokens: Vec<TokenId>,
    pub(crate) logprobs: TopLogprobs,
    pub(crate) prompt_logprobs: TopLogprobs,
}

type Script = Box<dyn Fn(&Request) -> Act + Send + Sync>;

pub(crate) struct Double {
    card: ModelCard,
    script: Mutex<Script>,
    pub(crate) seen: Mutex<Vec<Seen>>,
    adapters: Mutex<Vec<AdapterCard>>,
    generation: AtomicU64,
    /// Generations that are not at an end.
    pub(crate) active: Arc<AtomicUsize>,
    /// Tokens sent.
    pub(crate) tokens: Arc<AtomicU64>,
    pub(crate) draining: AtomicBool,
    pub(crate) broken: AtomicBool,
}

/// Ends a text of the fixture's model.
pub(crate) const END: TokenId = 1013;

/// What ends soonest: the end itself, a quotation mark, a closing brace.
const SHORTEST: [TokenId; 3] = [END, 1, 92];

impl Double {
    pub(crate) fn new(script: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            card: ModelCard {
                vocab_size: 1024,
                max_model_len: 512,
            },
            script: Mutex::new(Box::new(script)),
            seen: Mutex::default(),
            adapters: Mutex::default(),
            generation: AtomicU64::new(0),
            active: Arc::default(),
            tokens: Arc::default(),
            draining: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        })
    }

    pub(crate) fn add_adapter(&self, name: &str) {
        self.load_adapter(name, Path::new("adapters").join(name).as_path(), true)
            .unwrap();
    }
}

impl Engine for Double {
    fn model(&self) -> &ModelCard {
        &self.card
    }

    fn submit(&self, request: Request) -> Result<Generation, Refused> {
        if self.draining.load(Ordering::SeqCst) {
            return Err(Refused::Draining);
        }
        if request.prompt.is_empty() {
            return Err(Refused::EmptyPrompt);
        }
        if let Some(id) = request
            .prompt
            .iter()
            .find(|id| **id as usize >= self.card.vocab_size)
        {
            return Err(Refused::UnknownToken {
                id: *id,
                vocab_size: self.card.vocab_size,
            });
        }
        self.seen.lock().unwrap().push(Seen {
            prompt: request.prompt.to_vec(),
            generated: request.generated.clone(),
            adapter: request.adapter.clone(),
            sampling: request.sampling.clone(),
            choice: request.choice,
            max_tokens: request.max_tokens,
            min_tokens: request.min_tokens,
            stop_tokens: request.stop_tokens.clone(),
            logprobs: request.logprobs,
            prompt_logprobs: request.prompt_logprobs,
        });
        let act = (self.script.lock().unwrap())(&request);
        if let Act::Refuse(refused) = act {
            return Err(refused);
        }
        let (sender, events) = mpsc::channel(4);
        let active = Active::new(self.active.clone());
        let tokens = self.tokens.clone();
        tokio::spawn(async move {
            let _active = active;
            let _left = Player {
                sender,
                request,
                tokens,
                sent: 0,
            }
            .play(act)
            .await;
        });
        Ok(Generation { events })
    }

    fn adapters(&self) -> Vec<AdapterCard> {
        self.adapters.lock().unwrap().clone()
    }

    fn load_adapter(
        &self,
        name: &str,
        dir: &Path,
        replace: bool,
    ) -> Result<AdapterCard, AdapterError> {
        while dir.join("slow").exists() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut adapters = self.adapters.lock().unwrap();
        let place = adapters.iter().position(|card| card.name == name);
        if place.is_some() && !replace {
            return Err(AdapterError::Exists(name.to_owned()));
        }
        if dir.join("broken").exists() {
            return Err(AdapterError::Invalid(
                "adapter_model.safetensors: the header is cut off".into(),
            ));
        }
        let generation = self.generation.fetch_add(1, Ordering::SeqCst);
        let card = AdapterCard {
            name: name.to_owned(),
            dir: dir.to_owned(),
            rank: 8,
            generation,
            requests: 0,
        };
        match place {
            Some(place) => adapters[place] = card.clone(),
            None => adapters.push(card.clone()),
        }
        Ok(card)
    }

    fn unload_adapter(&self, name: &str) -> Result<(), AdapterError> {
        let mut adapters = self.adapters.lock().unwrap();
        let place = adapters.iter().position(|card| card.name == name);
        let place = place.ok_or_else(|| AdapterError::Unknown(name.to_owned()))?;
        adapters.remove(place);
        Ok(())
    }

    fn stats(&self) -> Stats {
        Stats {
            running: self.active.load(Ordering::SeqCst),
            blocks: 100,
            blocks_used: 25,
            generation_tokens: self.tokens.load(Ordering::SeqCst),
            ..Stats::default()
        }
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    fn failure(&self) -> Option<String> {
        self.broken
            .load(Ordering::SeqCst)
            .then(|| "the device is gone".to_owned())
    }
}

struct Active(Arc<AtomicUsize>);

impl Active {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Player {
    sender: mpsc::Sender<Event>,
    request: Request,
    tokens: Arc<AtomicU64>,
    sent: usize,
}

/// Nobody listens.
struct Left;

impl Player {
    async fn play(&mut self, act: Act) -> Result<(), Left> {
        if self.request.prompt_logprobs != TopLogprobs::None {
            let wanted = self.request.prompt_logprobs;
            let rest = self.request.prompt[1..]
                .iter()
                .map(|id| logprobs(*id, wanted));
            let all = std::iter::once(None).chain(rest).collect();
            self.send(Event::Prompt(all)).await?;
        }
        self.sent = self.request.generated.len();
        match act {
            Act::Say(tokens, pause) => self.say(tokens, pause).await,
            Act::Obey(tokens) => self.obey(tokens).await,
            Act::Forever(token, pause) => loop {
                if self.is_full() {
                    return self.finish(FinishReason::Length).await;
                }
                self.token(token, pause).await?;
            },
            Act::End(tokens, reason) => {
                for id in tokens {
                    self.token(id, Duration::ZERO).await?;
                }
                self.finish(reason).await
            }
            Act::Die(tokens) => {
                for id in tokens {
                    self.token(id, Duration::ZERO).await?;
                }
                Ok(())
            }
            Act::Hang | Act::Refuse(_) => {
                self.sender.closed().await;
                Err(Left)
            }
        }
    }

    /// Goes on after what was generated already, as a real engine does.
    async fn say(&mut self, tokens: Vec<TokenId>, pause: Duration) -> Result<(), Left> {
        for id in tokens.into_iter().skip(self.sent).chain([END]) {
            if self.is_full() {
                return self.finish(FinishReason::Length).await;
            }
            self.token(id, pause).await?;
            if self.request.stop_tokens.contains(&id) {
                return self.finish(FinishReason::StopToken(id)).await;
            }
        }
        self.finish(FinishReason::Length).await
    }

    async fn obey(&mut self, tokens: Vec<TokenId>) -> Result<(), Left> {
        let Some(mut constraint) = self.request.constraint.take() else {
            return self.say(tokens, Duration::ZERO).await;
        };
        for id in self.request.generated.clone() {
            if let Err(message) = constraint.accept(id) {
                return self.finish(FinishReason::Constraint(message)).await;
            }
        }
        let mut wish = tokens.into_iter().peekable();
        while !self.is_full() {
            let mut mask = vec![0; 32];
            if let Err(message) = constraint.allowed(&mut mask) {
                return self.finish(FinishReason::Constraint(message)).await;
            }
            let allowed = |id: &TokenId| mask[*id as usize / 32] >> (id % 32) & 1 == 1;
            let wanted = wish.next_if(allowed);
            let Some(id) = wanted.or_else(|| SHORTEST.into_iter().chain(0..1024).find(allowed))
            else {
                return self
                    .finish(FinishReason::Constraint("no token is allowed".into()))
                    .await;
            };
            self.token(id, Duration::ZERO).await?;
            if self.request.stop_tokens.contains(&id) {
                return self.finish(FinishReason::StopToken(id)).await;
            }
            match constraint.accept(id) {
                Ok(true) => return self.finish(FinishReason::Complete).await,
                Ok(false) => {}
                Err(message) => return self.finish(FinishReason::Constraint(message)).await,
            }
        }
        self.finish(FinishReason::Length).await
    }

    fn is_full(&self) -> bool {
        self.sent >= self.request.max_tokens
    }

    async fn token(&mut self, id: TokenId, pause: Duration) -> Result<(), Left> {
        if !pause.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.sender.closed() => return Err(Left),
            }
        }
        self.sent += 1;
        let logprobs = logprobs(id, self.request.logprobs);
        self.send(Event::Token(TokenEvent { id, logprobs })).await?;
        self.tokens.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn finish(&mut self, reason: FinishReason) -> Result<(), Left> {
        let usage = Usage {
            prompt: self.request.prompt.len(),
            cached: 2,
            generated: self.sent,
        };
        let queued = Duration::from_millis(3);
        self.send(Event::Finished(Finish {
            reason,
            usage,
            queued,
        }))
        .await
    }

    async fn send(&mut self, event: Event) -> Result<(), Left> {
        self.sender.send(event).await.map_err(|_| Left)
    }
}

/// Made up, but of the right shape: the token itself is the likeliest, and token 0 follows.
fn logprobs(id: TokenId, wanted: TopLogprobs) -> Option<Logprobs> {
    let top = |count: usize| {
        let others = (0..1024).filter(|other| *other != id);
        let others = others
            .enumerate()
            .map(|(place, other)| (other, -1.0 - place as f32));
        std::iter::once((id, -0.5))
            .chain(others)
            .take(count)
            .collect()
    };
    let top = match wanted {
        TopLogprobs::None => return None,
        TopLogprobs::Best(count) => top(count),
        TopLogprobs::All => top(1024),
    };
    Some(Logprobs {
        logprob: -0.5,
        rank: 0,
        top,
    })
}
