// SPDX-License-Identifier: Apache-2.0
//! Translations of the apps, from their `po/LANGUAGE/*.po`.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

/// All messages of a language, the way the browser looks them up: context and text joined by U+0004, to a translation or
/// a list of plural forms. Untranslated ones are left out.
pub(crate) fn messages(apps: &[impl AsRef<Path>], language: &str) -> Value {
    let mut all = Map::new();
    for app in apps {
        let Ok(files) = fs::read_dir(app.as_ref().join("po").join(language)) else { continue };
        for text in files.flatten().filter_map(|file| fs::read_to_string(file.path()).ok()) {
            all.extend(read(&text));
        }
    }
    Value::Object(all)
}

#[derive(Default)]
struct Message {
    context: Option<String>,
    id: Option<String>,
    translations: Vec<String>,
}

fn read(text: &str) -> Map<String, Value> {
    let mut all = Map::new();
    let mut message = Message::default();
    let mut field: Option<Field> = None;
    for line in text.lines().map(str::trim) {
        if line.is_empty() {
            finish(std::mem::take(&mut message), &mut all);
            field = None;
            continue;
        }
        if let Some(more) = quoted(line) {
            match field {
                Some(Field::Context) => message.context.get_or_insert_default().push_str(&more),
                Some(Field::Id) => message.id.get_or_insert_default().push_str(&more),
                Some(Field::Translation) => {
                    if let Some(last) = message.translations.last_mut() {
                        last.push_str(&more);
                    }
                }
                Some(Field::Plural) | None => {}
            }
            continue;
        }
        let Some((word, value)) = line.split_once(' ') else { continue };
        let Some(value) = quoted(value.trim()) else { continue };
        field = match word {
            "msgctxt" => {
                message.context = Some(value);
                Some(Field::Context)
            }
            "msgid" => {
                message.id = Some(value);
                Some(Field::Id)
            }
            "msgid_plural" => Some(Field::Plural),
            word if word == "msgstr" || word.starts_with("msgstr[") => {
                message.translations.push(value);
                Some(Field::Translation)
            }
            _ => None,
        };
    }
    finish(message, &mut all);
    all
}

#[derive(Clone, Copy)]
enum Field {
    Context,
    Id,
    Plural,
    Translation,
}

fn finish(message: Message, all: &mut Map<String, Value>) {
    let Some(id) = message.id.filter(|id| !id.is_empty()) else { return };
    if message.translations.is_empty() || message.translations.iter().any(String::is_empty) {
        return;
    }
    let key = message.context.map_or(id.clone(), |context| format!("{context}\u{4}{id}"));
    let value = match <[String; 1]>::try_from(message.translations) {
        Ok([one]) => Value::String(one),
        Err(forms) => forms.into(),
    };
    all.insert(key, value);
}

/// The text of a C string literal.
fn quoted(literal: &str) -> Option<String> {
    let inner = literal.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                other => text.push(other),
            },
            c => text.push(c),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_plurals_and_continued_lines() {
        let text = "msgid \"\"\nmsgstr \"Plural-Forms: x\"\n\n#: view.js:1\nmsgid \"a \"\n\"\\\"b\\\"\"\nmsgstr \"c\\n\"\n\"d\"\n\n\
            msgctxt \"state\"\nmsgid \"on\"\nmsgstr \"an\"\n\nmsgid \"%d path\"\nmsgid_plural \"%d paths\"\n\
            msgstr[0] \"%d Pfad\"\nmsgstr[1] \"%d Pfade\"\n\nmsgid \"open\"\nmsgstr \"\"\n";
        let expected = serde_json::json!({ "a \"b\"": "c\nd", "state\u{4}on": "an", "%d path": ["%d Pfad", "%d Pfade"] });
        assert_eq!(Value::Object(read(text)), expected);
    }
}
