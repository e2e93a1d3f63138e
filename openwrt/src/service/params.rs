// SPDX-License-Identifier: Apache-2.0
//! Arguments of a call: their declaration, the check against it, and typed access.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::CallError;

/// The type of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ArgKind {
    /// A string.
    Text,
    /// A whole number that fits `i64`.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Flag,
    /// A table.
    Object,
    /// A list of anything.
    List,
}

impl ArgKind {
    /// With its article, for messages.
    fn described(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Flag => "true or false",
            Self::Object => "an object",
            Self::List => "a list",
        }
    }

    fn accepts(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Integer => value.as_i64().is_some(),
            Self::Number => value.is_number(),
            Self::Flag => value.is_boolean(),
            Self::Object => value.is_object(),
            Self::List => value.is_array(),
        }
    }
}

/// One argument of a method.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Arg {
    /// The key in the call's parameters.
    pub name: &'static str,
    /// What the value must be.
    #[serde(rename = "type")]
    pub kind: ArgKind,
    /// Whether the call may leave it out (or give null).
    pub optional: bool,
    /// One line for `help`: meaning, unit, default.
    pub doc: &'static str,
}

impl Arg {
    /// An argument every call must give.
    pub const fn required(name: &'static str, kind: ArgKind, doc: &'static str) -> Self {
        Self { name, kind, optional: false, doc }
    }

    /// An argument a call may leave out.
    pub const fn optional(name: &'static str, kind: ArgKind, doc: &'static str) -> Self {
        Self { name, kind, optional: true, doc }
    }
}

/// The arguments of one call, checked against the method's declaration: nothing unknown, nothing missing,
/// nothing of a wrong type.
#[derive(Debug, Clone, Default)]
pub struct Params(Map<String, Value>);

impl Params {
    /// Checks `value` (an object, or null for none) against the declared arguments.
    ///
    /// # Errors
    /// `invalid_argument` that names the argument.
    pub fn check(args: &[Arg], value: Value) -> Result<Self, CallError> {
        let mut map = match value {
            Value::Null => Map::new(),
            Value::Object(map) => map,
            _ => return Err(CallError::argument("params", "must be an object")),
        };
        map.retain(|_, value| !value.is_null());
        for (name, value) in &map {
            let Some(arg) = args.iter().find(|arg| arg.name == name) else {
                return Err(CallError::argument(name, unknown(args)));
            };
            if !arg.kind.accepts(value) {
                return Err(CallError::argument(name, format_args!("must be {}", arg.kind.described())));
            }
        }
        match args.iter().find(|arg| !arg.optional && !map.contains_key(arg.name)) {
            Some(arg) => Err(CallError::argument(
                arg.name,
                format_args!("is missing (must be {})", arg.kind.described()),
            )),
            None => Ok(Self(map)),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// `invalid_argument` where it is absent or no string; the same holds for the getters below.
    pub fn text(&self, name: &str) -> Result<&str, CallError> {
        required(name, self.optional_text(name)?)
    }

    /// A string, if given.
    ///
    /// # Errors
    /// `invalid_argument` where it is no string.
    pub fn optional_text(&self, name: &str) -> Result<Option<&str>, CallError> {
        self.get(name, ArgKind::Text, Value::as_str)
    }

    /// A whole number.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn integer(&self, name: &str) -> Result<i64, CallError> {
        required(name, self.optional_integer(name)?)
    }

    /// A whole number, if given.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn optional_integer(&self, name: &str) -> Result<Option<i64>, CallError> {
        self.get(name, ArgKind::Integer, Value::as_i64)
    }

    /// A number.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn number(&self, name: &str) -> Result<f64, CallError> {
        required(name, self.optional_number(name)?)
    }

    /// A number, if given.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn optional_number(&self, name: &str) -> Result<Option<f64>, CallError> {
        self.get(name, ArgKind::Number, Value::as_f64)
    }

    /// A flag.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn flag(&self, name: &str) -> Result<bool, CallError> {
        required(name, self.optional_flag(name)?)
    }

    /// A flag, if given.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn optional_flag(&self, name: &str) -> Result<Option<bool>, CallError> {
        self.get(name, ArgKind::Flag, Value::as_bool)
    }

    /// A table.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn object(&self, name: &str) -> Result<&Map<String, Value>, CallError> {
        required(name, self.optional_object(name)?)
    }

    /// A table, if given.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn optional_object(&self, name: &str) -> Result<Option<&Map<String, Value>>, CallError> {
        self.get(name, ArgKind::Object, Value::as_object)
    }

    /// A list.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn list(&self, name: &str) -> Result<&[Value], CallError> {
        required(name, self.optional_list(name)?)
    }

    /// A list, if given.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn optional_list(&self, name: &str) -> Result<Option<&[Value]>, CallError> {
        self.get(name, ArgKind::List, |value| value.as_array().map(Vec::as_slice))
    }

    /// A duration given as a number of seconds, if given.
    ///
    /// # Errors
    /// `invalid_argument`, also for a negative or absurdly large number.
    pub fn optional_duration(&self, name: &str) -> Result<Option<Duration>, CallError> {
        let Some(seconds) = self.optional_number(name)? else { return Ok(None) };
        Duration::try_from_secs_f64(seconds)
            .map(Some)
            .map_err(|_| CallError::argument(name, "must be a number of seconds, 0 or more"))
    }

    fn get<'a, T>(
        &'a self,
        name: &str,
        kind: ArgKind,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, CallError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| CallError::argument(name, format_args!("must be {}", kind.described()))),
        }
    }
}

fn required<T>(name: &str, value: Option<T>) -> Result<T, CallError> {
    value.ok_or_else(|| CallError::argument(name, "is missing"))
}

fn unknown(args: &[Arg]) -> String {
    if args.is_empty() {
        return "is unknown; the method takes none".into();
    }
    let names: Vec<_> = args.iter().map(|arg| format!("`{}`", arg.name)).collect();
    format!("is unknown; the method takes {}", names.join(", "))
}

/// The most entries one answer carries; longer lists are asked for page by page.
pub const MAX_PAGE: usize = 200;

/// Declares `offset` for a method that uses [`page`].
pub const OFFSET: Arg = Arg::optional("offset", ArgKind::Integer, "number of entries to skip (default 0)");

/// Declares `limit` for a method that uses [`page`].
pub const LIMIT: Arg =
    Arg::optional("limit", ArgKind::Integer, "most entries to return (default and maximum 200)");

/// One page of a longer list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries of this page.
    pub items: Vec<T>,
    /// How many entries there are in all.
    pub total: usize,
}

/// Cuts the page that `offset` and `limit` of the call ask for out of `items`; a larger limit than
/// [`MAX_PAGE`] is cut to it, an offset behind the end gives an empty page.
///
/// # Errors
/// `invalid_argument` for a negative or wrongly typed number.
pub fn page<T>(items: impl IntoIterator<Item = T>, params: &Params) -> Result<Page<T>, CallError> {
    let count = |name: &str, default: usize| match params.optional_integer(name)? {
        None => Ok(default),
        Some(value) => usize::try_from(value).map_err(|_| CallError::argument(name, "must be 0 or more")),
    };
    let offset = count("offset", 0)?;
    let limit = count("limit", MAX_PAGE)?.min(MAX_PAGE);
    let mut kept = Vec::new();
    let mut total = 0;
    for item in items {
        if total >= offset && kept.len() < limit {
            kept.push(item);
        }
        total += 1;
    }
    Ok(Page { items: kept, total })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::ErrorCode;
    use super::*;

    const ARGS: &[Arg] = &[
        Arg::required("rule", ArgKind::Text, "the rule"),
        Arg::optional("for", ArgKind::Number, "seconds"),
        Arg::optional("count", ArgKind::Integer, "how many"),
        Arg::optional("waveform", ArgKind::Flag, "with samples"),
        Arg::optional("filter", ArgKind::Object, "conditions"),
        Arg::optional("names", ArgKind::List, "names"),
    ];

    fn refused(value: Value) -> String {
        let error = Params::check(ARGS, value).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        error.message
    }

    #[test]
    fn good_arguments_are_read_back() {
        let params = Params::check(
            ARGS,
            json!({"rule": "internet", "for": 90, "count": -3, "waveform": true, "filter": {"a": 1}, "names": ["x"]}),
        )
        .unwrap();
        assert_eq!(params.text("rule").unwrap(), "internet");
        assert_eq!(params.number("for").unwrap(), 90.0);
        assert_eq!(params.optional_duration("for").unwrap(), Some(Duration::from_secs(90)));
        assert_eq!(params.integer("count").unwrap(), -3);
        assert!(params.flag("waveform").unwrap());
        assert_eq!(params.object("filter").unwrap()["a"], 1);
        assert_eq!(params.list("names").unwrap(), [json!("x")]);
    }

    #[test]
    fn null_means_left_out() {
        let params = Params::check(ARGS, json!({"rule": "internet", "for": null})).unwrap();
        assert_eq!(params.optional_number("for").unwrap(), None);
        assert!(refused(json!({"rule": null})).contains("`rule`: is missing"));
        assert!(Params::check(&[], Value::Null).is_ok());
    }

    #[test]
    fn each_refusal_names_its_argument() {
        assert_eq!(refused(json!({})), "argument `rule`: is missing (must be a string)");
        assert_eq!(refused(json!({"rule": 4})), "argument `rule`: must be a string");
        assert!(refused(json!({"rule": "a", "fro": 1}))
            .starts_with("argument `fro`: is unknown; the method takes `rule`, `for`"));
        for (name, value) in [
            ("for", json!("90")),
            ("count", json!(1.5)),
            ("count", json!(u64::MAX)),
            ("waveform", json!(1)),
            ("filter", json!([])),
            ("names", json!("x")),
        ] {
            assert!(refused(json!({"rule": "a", name: value})).contains(&format!("`{name}`: must be")));
        }
        assert_eq!(refused(json!([1])), "argument `params`: must be an object");
    }

    #[test]
    fn a_negative_duration_is_refused() {
        let params = Params::check(ARGS, json!({"rule": "a", "for": -1})).unwrap();
        assert!(params.optional_duration("for").unwrap_err().message.contains("`for`"));
        let params = Params::check(ARGS, json!({"rule": "a", "for": 1e300})).unwrap();
        assert!(params.optional_duration("for").is_err());
    }

    #[test]
    fn pages_cover_the_list_and_never_exceed_the_maximum() {
        let of = |value| Params::check(&[OFFSET, LIMIT], value).unwrap();
        let first = page(0..450, &of(json!({}))).unwrap();
        assert_eq!((first.items.len(), first.total), (MAX_PAGE, 450));
        let last = page(0..450, &of(json!({"offset": 400, "limit": 1000}))).unwrap();
        assert_eq!(last.items, (400..450).collect::<Vec<_>>());
        assert!(page(0..3, &of(json!({"offset": 3}))).unwrap().items.is_empty());
        assert!(page(0..3, &of(json!({"limit": 0}))).unwrap().items.is_empty());
        assert!(page(0..3, &of(json!({"offset": -1}))).unwrap_err().message.contains("`offset`"));
        assert!(page(0..3, &of(json!({"limit": i64::MIN}))).is_err());
    }
}
