//! Fields of log records and spans, as JavaScript gets them.

use std::fmt::Debug;

use napi::Result;
use napi::bindgen_prelude::{BigInt, Env, Object};
use tracing::field::{Field, Visit};

/// Named values, in order; of one name the last counts.
#[derive(Clone, Default)]
pub(crate) struct Fields(Vec<(&'static str, Value)>);

#[derive(Clone)]
enum Value {
    Text(String),
    Number(f64),
    Unsigned(u64),
    Signed(i64),
    Flag(bool),
}

impl Fields {
    /// Adds others behind them.
    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Takes out what an event says; what else it has is about that.
    pub(crate) fn take_message(&mut self) -> String {
        let at = self.0.iter().position(|(name, value)| *name == "message" && matches!(value, Value::Text(_)));
        match at.map(|at| self.0.remove(at)) {
            Some((_, Value::Text(message))) => message,
            Some(_) | None => String::new(),
        }
    }

    /// Makes the object that the user's function gets.
    pub(crate) fn into_js(self, env: &Env) -> Result<Object<'_>> {
        let mut object = Object::new(env)?;
        for (name, value) in self.0 {
            match value {
                Value::Text(value) => object.set(name, value)?,
                Value::Number(value) => object.set(name, value)?,
                Value::Unsigned(value) => object.set(name, BigInt::from(value))?,
                Value::Signed(value) => object.set(name, BigInt::from(value))?,
                Value::Flag(value) => object.set(name, value)?,
            }
        }
        Ok(object)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push((field.name(), Value::Text(format!("{value:?}"))));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), Value::Text(value.into())));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.push((field.name(), Value::Number(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.push((field.name(), Value::Unsigned(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.push((field.name(), Value::Signed(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.push((field.name(), Value::Flag(value)));
    }
}
