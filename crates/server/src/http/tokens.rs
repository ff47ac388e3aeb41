//! `/tokenize` and `/detokenize`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::body;
use crate::api::chat;
use crate::api::error::Result;
use crate::api::fields::Fields;
use crate::app::App;

/// `POST /tokenize`: a text in `prompt`, or `messages` as of a chat.
pub(super) async fn tokenize(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>> {
    let body = body::read(&headers, body, &app).await?;
    app.blocking(move |app| {
        let mut fields = Fields::parse(&body)?;
        known_model(app, &mut fields)?;
        let spelled = fields.flag("return_token_strs", false)?;
        let ids = match fields.text("prompt")? {
            Some(prompt) => {
                let add_special = fields.flag("add_special_tokens", true)?;
                app.encode("prompt", &prompt, add_special)?
            }
            None if fields.has("messages") => chat::tokenize(app, &mut fields)?,
            None => return Err(fields.invalid("prompt", "expected a string, or `messages`")),
        };
        fields.finish(&[])?;
        let token = |id: &u32| {
            app.tokenizer
                .token_bytes(*id)
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let strings = spelled.then(|| ids.iter().map(token).collect::<Value>());
        Ok(Json(json!({
            "count": ids.len(),
            "max_model_len": app.engine.model().max_model_len,
            "tokens": ids,
            "token_strs": strings,
        })))
    })
    .await
}

/// `POST /detokenize`: `tokens` to a text.
pub(super) async fn detokenize(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>> {
    let body = body::read(&headers, body, &app).await?;
    app.blocking(move |app| {
        let mut fields = Fields::parse(&body)?;
        known_model(app, &mut fields)?;
        let Some(ids) = fields.ids("tokens")? else {
            return Err(fields.invalid("tokens", "expected a list of token ids"));
        };
        let text = app.tokenizer.decode(&ids, false);
        let text = text.map_err(|error| fields.invalid("tokens", error.to_string()))?;
        fields.finish(&[])?;
        Ok(Json(json!({"prompt": text})))
    })
    .await
}

fn known_model(app: &App, fields: &mut Fields) -> Result<()> {
    let model = fields.text("model")?;
    app.model_and_adapter(model.as_deref()).map(drop)
}
