//! What an answer or a failure says of its backend, and whether the request is asked again.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;

use crate::backend::Backend;
use crate::forward::{Answer, Job};
use crate::headers::retry_after;
use crate::http::error::ApiError;
use crate::upstream::Failure;

/// Backends that one request is brought to, whatever happens there.
const ATTEMPTS: u32 = 32;

/// A backend that wants peace and does not say for how long.
const PEACE: Duration = Duration::from_secs(1);

/// What to do after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Pass it on.
    Good,
    /// The backend did nothing; somebody else may.
    Refused,
    /// The backend failed; somebody else may do better.
    Failed,
}

impl Job {
    /// What an answer says of its backend.
    pub(crate) fn judge(&self, backend: &Backend, answer: &Answer) -> Judgement {
        let parts = answer.parts();
        match parts.status {
            StatusCode::TOO_MANY_REQUESTS => {
                let peace = retry_after(&parts.headers).unwrap_or(PEACE);
                self.shared.backends.pause(backend, peace);
                Judgement::Refused
            }
            StatusCode::SERVICE_UNAVAILABLE if retry_after(&parts.headers).is_some() => {
                let peace = retry_after(&parts.headers).unwrap_or(PEACE);
                self.shared.backends.pause(backend, peace);
                Judgement::Refused
            }
            StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                backend.count_error();
                Judgement::Failed
            }
            _ => {
                if backend.proved() {
                    self.shared.backends.dispatch();
                }
                Judgement::Good
            }
        }
    }

    /// Notes a failure, and whether the request can be asked again.
    pub(crate) fn account(
        &mut self,
        backend: &Arc<Backend>,
        failure: Failure,
    ) -> Result<(), ApiError> {
        if failure == Failure::Local {
            self.shared.lacks_something();
            return Err(ApiError::exhausted());
        }
        backend.count_error();
        match failure {
            Failure::Connect(why) => {
                backend.eject(why);
                let tried = self.attempts < ATTEMPTS;
                return tried
                    .then_some(())
                    .ok_or_else(|| ApiError::unreachable(self.attempts));
            }
            Failure::Timeout => {
                return Err(ApiError::timeout(self.shared.config.limits.request_timeout));
            }
            Failure::Cut => self.eject_unless_last(backend, "connection lost"),
            Failure::Stalled => self.eject_unless_last(backend, "stalled"),
            Failure::Stale => backend.doubt.notify_one(),
            // Its health is known to be bad.
            Failure::Hung | Failure::Local => {}
        }
        if !self.repeatable {
            return Err(ApiError::lost_once());
        }
        if failure.is_loss() && !self.may_lose() {
            return Err(ApiError::lost_often(self.losses));
        }
        if self.may_replay() {
            return Ok(());
        }
        Err(match failure {
            Failure::Stalled => ApiError::stalled(self.shared.config.limits.stall_timeout),
            _ => ApiError::no_replay(),
        })
    }

    /// Counts a connection that broke under the request, and says whether it may be asked again nevertheless.
    pub(crate) fn may_lose(&mut self) -> bool {
        self.losses += 1;
        self.losses <= self.shared.config.retries.losses
    }

    pub(crate) fn can_go_elsewhere(&self, backend: &Backend) -> bool {
        self.attempts < ATTEMPTS && self.shared.backends.has_other(&self.wanted, backend.id)
    }

    pub(crate) fn can_repeat(&mut self, backend: &Backend) -> bool {
        self.repeatable && self.can_go_elsewhere(backend) && self.may_replay()
    }

    /// Takes one from the request's own replays and one from everybody's.
    pub(crate) fn may_replay(&mut self) -> bool {
        if self.replays == 0 {
            return false;
        }
        self.replays -= 1;
        if self.shared.budget.spend() {
            self.shared.metrics.replays.add();
            return true;
        }
        self.shared.metrics.denied.add();
        false
    }

    /// A backend answered a request as it should, so that those that failed the same request did so on their own account.
    pub(crate) fn blame(&mut self, good: &Backend) {
        good.absolve();
        for (suspect, status) in std::mem::take(&mut self.suspects) {
            if suspect.strike() && self.shared.backends.can_spare(&suspect) {
                suspect.eject(&format!("unhealthy (HTTP {})", status.as_u16()));
            }
        }
    }

    /// A fault that may be the request's own must not take everybody out.
    pub(crate) fn eject_unless_last(&self, backend: &Backend, why: &str) {
        if self.shared.backends.is_last(backend) {
            backend.doubt.notify_one();
        } else {
            backend.eject(why);
        }
    }
}
