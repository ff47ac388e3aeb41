//! What the functions, filters and methods of a template cost, paid before they run.
//!
//! They are the engine's own; what they may make is bounded by what they are given, and that is what is paid for.

use super::budget::{self, spend};
use super::{guard, python};
use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters, functions};
use std::cell::RefCell;

/// Bytes of an item of a list.
const ITEM: usize = 32;
/// Bytes of an entry of a dictionary.
const ENTRY: usize = 96;
/// What a number may make of a field of `format`, in bytes.
const FIELD: usize = 1000;

/// All values that a template makes together may have so many times the bytes of its text.
const MADE: usize = 16;

type Cost = fn(&mut [Value]) -> Result<(), Error>;

/// Replaces what makes values by what pays before it does.
pub(super) fn add_to(env: &mut Environment<'static>) {
    macro_rules! paid {
        ($cost:expr => $($name:ident)*) => {
            $(pay_before(env, stringify!($name), $cost, Value::from_function(filters::$name));)*
        };
    }
    paid!(text => upper lower title capitalize escape safe);
    paid!(items => dictsort groupby items list map max min reject rejectattr reverse select selectattr sort sum unique last);
    paid!(rows => batch slice);
    paid!(replaced => replace);
    paid!(indented => indent);
    paid!(formatted => format);
    pay_before(env, "e", text, Value::from_function(filters::escape));
    env.add_filter("join", join);
    for name in ["split", "lines", "chain", "zip", "pprint", "bool"] {
        env.remove_filter(name);
    }
    pay_function(env, "dict", Value::from_function(functions::dict));
    pay_function(env, "namespace", Value::from_function(functions::namespace));
    operands(env);
}

fn pay_before(env: &mut Environment<'static>, name: &'static str, cost: Cost, function: Value) {
    env.add_filter(name, move |state: &mut State, args: Rest<ValueOrKwargs>| {
        let mut args = args.into_values();
        cost(&mut args)?;
        function.call(state, &args)
    });
}

fn pay_function(env: &mut Environment<'static>, name: &'static str, function: Value) {
    env.add_function(name, move |state: &mut State, args: Rest<ValueOrKwargs>| {
        let args = args.into_values();
        args.iter().try_for_each(shallow)?;
        function.call(state, &args)
    });
}

/// A copy of the value without what its items hold.
fn shallow(value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::String => spend(value.as_str().map_or(0, str::len)),
        ValueKind::Map => spend(ENTRY.saturating_mul(value.len().unwrap_or(0))),
        ValueKind::Seq | ValueKind::Iterable => match value.len() {
            Some(items) => spend(ITEM.saturating_mul(items)),
            None => value.try_iter()?.try_for_each(|_| spend(ITEM)),
        },
        _ => Ok(()),
    }
}

/// The value as a text, and a few copies of it.
fn text(args: &mut [Value]) -> Result<(), Error> {
    let Some(value) = args.first_mut() else {
        return Ok(());
    };
    if value.as_str().is_none() && !value.is_undefined() {
        *value = python::str(value)?.into();
    }
    spend(
        value
            .as_str()
            .map_or(0, |text| text.len().saturating_mul(4)),
    )
}

fn items(args: &mut [Value]) -> Result<(), Error> {
    let is_reserved = |arg: &Value| {
        arg.as_str()
            .is_some_and(|name| name.starts_with(guard::RESERVED))
    };
    if args.iter().skip(1).any(is_reserved) {
        return Err(invalid("this name is reserved"));
    }
    let Some(value) = args.first() else {
        return Ok(());
    };
    match value.as_str() {
        Some(text) => spend(text.len().saturating_mul(ITEM)),
        None => shallow(value),
    }
}

/// Lists of a given length, which may be filled up.
fn rows(args: &mut [Value]) -> Result<(), Error> {
    items(args)?;
    let length = args.get(1).and_then(Value::as_usize).unwrap_or(0);
    spend(length.saturating_mul(2 * ITEM))
}

fn replaced(args: &mut [Value]) -> Result<(), Error> {
    text(args)?;
    for arg in args.iter_mut().skip(1) {
        text(std::slice::from_mut(arg))?;
    }
    match args {
        [value, from, to, ..] => match (value.as_str(), from.as_str(), to.as_str()) {
            (Some(value), Some(from), Some(to)) => spend_replaced(value, from, to),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn spend_replaced(value: &str, from: &str, to: &str) -> Result<(), Error> {
    let places = if from.is_empty() {
        value.len() + 1
    } else {
        value.matches(from).count()
    };
    spend(value.len().saturating_add(places.saturating_mul(to.len())))
}

fn indented(args: &mut [Value]) -> Result<(), Error> {
    text(args)?;
    let lines = args
        .first()
        .and_then(Value::as_str)
        .map_or(0, |text| text.lines().count() + 1);
    let widths = args.iter().skip(1).map(|arg| match arg.as_usize() {
        Some(width) => width,
        None => arg
            .get_attr("width")
            .ok()
            .and_then(|width| width.as_usize())
            .unwrap_or(0),
    });
    spend(widths.max().unwrap_or(0).max(4).saturating_mul(lines))
}

/// `format`: each field may print any of the values, in a width of at most three digits.
fn formatted(args: &mut [Value]) -> Result<(), Error> {
    let Some((format, values)) = args.split_first() else {
        return Ok(());
    };
    let format = format.as_str().unwrap_or_default();
    let mut digits = 0;
    for c in format.chars() {
        digits = if c.is_ascii_digit() { digits + 1 } else { 0 };
        if digits > 3 || c == '*' {
            return Err(invalid("format: expected widths of at most three digits"));
        }
    }
    let mut largest = FIELD;
    for value in values {
        largest = largest.max(printed(value)?);
    }
    let fields = format.matches(['%', '{']).count();
    spend(fields.saturating_mul(largest).saturating_add(format.len()))
}

/// The bytes of a value when it is printed, paid for.
fn printed(value: &Value) -> Result<usize, Error> {
    let bytes = match value.as_str() {
        Some(text) => text.len(),
        // Pays for its text itself.
        None => return Ok(python::str(value)?.len()),
    };
    spend(bytes)?;
    Ok(bytes)
}

/// The items of a sequence as Python prints them, with a text in between.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the engine passes arguments by value"
)]
fn join(
    value: &Value,
    joiner: Option<&Value>,
    attribute: Option<&str>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let by_name: Option<Value> = kwargs.get("d")?;
    let attribute = match attribute {
        Some(attribute) => Some(attribute.to_owned()),
        None => kwargs.get("attribute")?,
    };
    kwargs.assert_all_used()?;
    let joiner = joiner
        .or(by_name.as_ref())
        .filter(|joiner| !joiner.is_none());
    let joiner = joiner.map(python::str).transpose()?.unwrap_or_default();
    let items = value.try_iter()?.map(|item| match &attribute {
        Some(name) => item.get_item(&Value::from(name.as_str())),
        None => Ok(item),
    });
    joined(&joiner, items)
}

fn joined(
    joiner: &str,
    items: impl Iterator<Item = Result<Value, Error>>,
) -> Result<String, Error> {
    let mut out = String::new();
    for (at, item) in items.enumerate() {
        let item = python::str(&item?)?;
        let joiner = if at == 0 { "" } else { joiner };
        spend(joiner.len() + item.len() + 1)?;
        out.push_str(joiner);
        out.push_str(&item);
    }
    Ok(out)
}

/// Pays for a method, or does what the engine would do without a bound. `None` if the engine is to run it.
pub(super) fn method(value: &Value, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let Some(text) = value.as_str() else {
        let copies = matches!(name, "keys" | "values" | "items");
        return if copies { shallow(value) } else { Ok(()) }.map(|()| None);
    };
    let whole = text.len();
    match (name, args) {
        ("join", [items]) => {
            return joined(text, items.try_iter()?.map(Ok)).map(|text| Some(text.into()));
        }
        ("replace", [from, to, ..]) => {
            if let (Some(from), Some(to)) = (from.as_str(), to.as_str()) {
                spend_replaced(text, from, to)?;
            }
        }
        ("format", _) => {
            let mut all = vec![value.clone()];
            all.extend_from_slice(args);
            formatted(&mut all)?;
        }
        ("split", [separator, ..]) if separator.as_str().is_some_and(|text| !text.is_empty()) => {
            let parts = text.matches(separator.as_str().unwrap_or_default()).count() + 1;
            spend(parts.saturating_mul(ITEM).saturating_add(whole))?;
        }
        ("split" | "splitlines", _) => {
            let parts = text.chars().filter(|c| c.is_whitespace()).count() + 1;
            spend(parts.saturating_mul(ITEM).saturating_add(whole))?;
        }
        ("startswith" | "endswith" | "count" | "find" | "rfind", _) => {}
        _ => spend(whole.saturating_mul(4))?,
    }
    Ok(None)
}

/// An operand of `*`.
#[derive(Clone, Copy)]
enum Factor {
    /// A text or a list, of so many bytes.
    Bytes(usize),
    /// A number; 0 is also one that multiplies no text.
    Times(usize),
}

impl Factor {
    fn of(value: &Value) -> Self {
        match value.kind() {
            ValueKind::String => Self::Bytes(value.as_str().map_or(0, str::len)),
            ValueKind::Seq | ValueKind::Iterable => {
                Self::Bytes(ITEM.saturating_mul(value.len().unwrap_or(0)))
            }
            _ => Self::Times(value.as_usize().unwrap_or(0)),
        }
    }

    fn times(self, other: Self) -> Self {
        let (Self::Bytes(a) | Self::Times(a), Self::Bytes(b) | Self::Times(b)) = (self, other);
        match (self, other) {
            (Self::Times(_), Self::Times(_)) => Self::Times(a.saturating_mul(b)),
            _ => Self::Bytes(a.saturating_mul(b)),
        }
    }
}

/// The products that are being computed on this thread, and the last one that was.
struct Products {
    left: Vec<Factor>,
    last: Factor,
}

thread_local! {
    static PRODUCTS: RefCell<Products> = const {
        RefCell::new(Products { left: Vec::new(), last: Factor::Times(0) })
    };
}

/// A rendering begins, of a text of at most so many bytes.
pub(super) fn start(output_bytes: usize) {
    budget::start(output_bytes.saturating_mul(MADE), output_bytes);
    PRODUCTS.with_borrow_mut(|products| products.left.clear());
}

/// The filters that [`guard`] writes into the source.
fn operands(env: &mut Environment<'static>) {
    env.add_filter(guard::VALUE, |value: Value| shallow(&value).map(|()| value));
    env.add_filter(guard::PRINTED, |value: Value| {
        printed(&value).map(|_| value)
    });
    env.add_filter(guard::LEFT, |value: Value| {
        let factor = Factor::of(&value);
        PRODUCTS.with_borrow_mut(|products| products.left.push(factor));
        value
    });
    env.add_filter(guard::CHAIN, |value: Value| {
        PRODUCTS.with_borrow_mut(|products| products.left.push(products.last));
        value
    });
    env.add_filter(guard::PRODUCT, |value: Value| {
        let product = PRODUCTS.with_borrow_mut(|products| {
            let left = products.left.pop().unwrap_or(Factor::Times(0));
            products.last = left.times(Factor::of(&value));
            products.last
        });
        match product {
            Factor::Bytes(bytes) => spend(bytes).map(|()| value),
            Factor::Times(_) => Ok(value),
        }
    });
}

fn invalid(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}
