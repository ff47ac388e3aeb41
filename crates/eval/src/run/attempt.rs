//! One attempt at one question, from the prompt to the score.

use std::time::Duration;

use xgraft_dataset::{Class, Question, Role, Trajectory};

use super::RunError;
use super::session::{End, Session, Shared};
use crate::agent::Agent;
use crate::task::{Place, Task, Verdict, answer_in};

/// How a conversation ended.
pub(crate) enum Spoken {
    /// With this text, in which the answer stands.
    Text(String),
    /// Without an answer.
    Nothing(&'static str),
}

/// Asks one question once. A failure of the endpoint is a trajectory without a score.
pub(crate) async fn attempt(
    shared: &Shared,
    agent: Option<&Agent>,
    (task, question): (&Task, &Question),
    run: u32,
    retried: &(dyn Fn(u32, Duration, &str) + Send + Sync),
) -> Result<Trajectory, RunError> {
    let mut session = Session::new(shared, question, run, retried);
    let spoken = match agent {
        None => directly(&mut session, task, question).await,
        Some(agent) => agent.solve(&mut session, &task.prompt(question)).await,
    };
    let scored = match spoken {
        Ok(Spoken::Text(text)) => {
            let place = if agent.is_some() {
                Place::Solution
            } else {
                task.answer
            };
            score(task, answer_in(&text, place), question)
        }
        Ok(Spoken::Nothing(why)) => Scored::none(Class::Unparsed, why),
        Err(End::Overflow(why)) => Scored::none(Class::Overflow, &why),
        Err(End::Infrastructure(why)) => Scored::none(Class::Infrastructure, &why),
        Err(End::Refused(source)) => return Err(RunError::Refused { source }),
        Err(End::Sandbox(error)) => return Err(error.into()),
    };
    Ok(Trajectory {
        question: question.id.clone(),
        task: question.task.clone(),
        model: shared.plan.model.clone(),
        arm: shared.plan.arm.clone(),
        run: run.to_string(),
        seed: session.seed,
        timing: Some(session.timing()),
        usage: Some(session.usage),
        executions: session.executions,
        messages: session.messages,
        answer: scored.answer,
        reference: Some(question.answer.clone()),
        score: (scored.class != Class::Infrastructure).then_some(scored.score),
        class: scored.class,
        detail: scored.detail,
    })
}

async fn directly(
    session: &mut Session<'_>,
    task: &Task,
    question: &Question,
) -> Result<Spoken, End> {
    let system = session
        .shared()
        .plan
        .system
        .as_ref()
        .or(task.system.as_ref());
    if let Some(system) = system {
        session.push(Role::System, system.clone());
    }
    session.push(Role::User, task.prompt(question));
    let said = session.ask(&[]).await?;
    let closed = said.text.contains("</solution>");
    session.push(Role::Assistant, said.text.clone());
    if said.cut && !closed {
        return Err(End::Overflow(
            "the answer ends because its tokens are over".to_owned(),
        ));
    }
    Ok(Spoken::Text(said.text))
}

struct Scored {
    class: Class,
    score: f64,
    answer: Option<String>,
    detail: Option<String>,
}

impl Scored {
    fn none(class: Class, why: &str) -> Self {
        Self {
            class,
            score: 0.0,
            answer: None,
            detail: Some(why.to_owned()),
        }
    }
}

fn score(task: &Task, answer: Option<String>, question: &Question) -> Scored {
    let Some(answer) = answer else {
        return Scored::none(Class::Unparsed, "there is no answer");
    };
    let verdict = task.scorer.judge(&answer, &question.answer);
    Scored {
        class: match verdict {
            Verdict::Right => Class::Right,
            Verdict::Wrong => Class::Wrong,
            Verdict::Unparsed => Class::Unparsed,
        },
        score: verdict.score(),
        detail: (verdict == Verdict::Unparsed)
            .then(|| "the answer has not the form of the task".to_owned()),
        answer: Some(answer),
    }
}
