//! What is generated from declarations: the reference page, the JSON schema, a sample.

use std::fmt::Write;

use serde_json::{Map, Value as Json, json};

use crate::{Category, Declaration, Documents, FIRST_VERSION, SectionDeclaration};

/// The reference as Markdown: a table for each section.
pub fn reference_markdown(title: &str, introduction: &str, sections: &[SectionDeclaration]) -> String {
    let mut page = format!("# {title}\n\n{introduction}\n");
    for section in sections {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "\n## `{}`\n\n{}", section.section, section.meaning);
        let (without, with): (Vec<_>, Vec<_>) =
            section.parameters.iter().partition(|parameter| parameter.is_without_effect());
        if !with.is_empty() {
            page.push_str(
                "\n| key | type | default | allowed | takes effect | meaning |\n|---|---|---|---|---|---|\n",
            );
            with.into_iter().for_each(|parameter| row(&mut page, "", parameter, true));
        }
        if !without.is_empty() {
            page.push_str(
                "\nWithout effect:\n\n| key | type | default | allowed | meaning |\n|---|---|---|---|---|\n",
            );
            without.into_iter().for_each(|parameter| row(&mut page, "", parameter, false));
            if let Some(meaning) = section.numbered {
                let _ = writeln!(
                    page,
                    "| `0`, `1`, … | object |  | an object with the keys of this section | {meaning} |"
                );
            }
        }
    }
    page
}

/// A parameter's row, then those of its fields; `effect`: with the column that says when it takes effect.
fn row(page: &mut String, list: &str, declaration: &Declaration, effect: bool) {
    let Declaration { key, default, allowed, category, meaning, since, .. } = declaration;
    let default = match default {
        None if declaration.is_without_effect() => String::new(),
        None => "required".to_owned(),
        Some(Json::Null) => "unset".to_owned(),
        Some(Json::String(text)) if !text.is_empty() => format!("`{text}`"),
        Some(other) => format!("`{other}`"),
    };
    let mut cells = vec![format!("`{list}{key}`"), type_and_marks(declaration), default, allowed.clone()];
    if effect {
        cells.push(category.map(|category| category.to_string()).unwrap_or_default());
    }
    cells.push(if *since == FIRST_VERSION { meaning.clone() } else { format!("{meaning} Since {since}.") });
    let cells: Vec<String> = cells.into_iter().map(|cell| cell.replace('|', "\\|")).collect();
    let _ = writeln!(page, "| {} |", cells.join(" | "));
    for field in &declaration.fields {
        row(page, &format!("{list}{key}[]."), field, effect);
    }
}

/// `uint32, pages` or `string, secret`.
fn type_and_marks(declaration: &Declaration) -> String {
    let Declaration { type_name, unit, secret, identity, .. } = declaration;
    let unit = unit.filter(|unit| unit != type_name);
    let marks = [unit, secret.then_some("secret"), identity.then_some("identity")];
    std::iter::once(*type_name).chain(marks.into_iter().flatten()).collect::<Vec<_>>().join(", ")
}

/// A JSON schema (draft 2020-12) of an object that holds every section as a property. Unknown keys are allowed, as
/// they are when documents are read.
pub fn json_schema(title: &str, sections: &[SectionDeclaration]) -> Json {
    let properties: Map<String, Json> = sections
        .iter()
        .map(|section| {
            let mut schema = object_schema(&section.parameters);
            schema["description"] = json!(section.meaning);
            if let Some(meaning) = section.numbered {
                schema["patternProperties"] = json!({"^[0-9]+$": {"type": "object", "description": meaning}});
            }
            (section.section.to_owned(), schema)
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "properties": properties,
    })
}

/// The schema of an object with these fields.
pub(crate) fn object_schema(fields: &[Declaration]) -> Json {
    let mut properties = Map::new();
    for field in fields {
        let mut schema = field.schema.clone();
        schema["description"] = json!(field.meaning);
        if let Some(default) = &field.default {
            schema["default"] = default.clone();
        }
        if let Some(category) = field.category {
            schema["x-category"] = json!(category);
        }
        if let Some(unit) = field.unit {
            schema["x-unit"] = json!(unit);
        }
        schema["x-since"] = json!(field.since);
        for (mark, name) in [(field.secret, "x-secret"), (field.identity, "x-identity")] {
            if mark {
                schema[name] = json!(true);
            }
        }
        properties.insert(field.key.to_owned(), schema);
    }
    let required = fields.iter().filter(|field| field.default.is_none() && !field.is_without_effect());
    let required: Vec<&str> = required.map(|field| field.key).collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// The table that the framework of the original volume driver reads: component, key, default, whether a change takes
/// effect while the process runs (`yes` or `no`), remarks. It begins with its heading, and has no row for fields.
pub fn help_markdown(sections: &[SectionDeclaration]) -> String {
    let mut table = "| component | key | default value | dynamically reconfigurable | remarks |\n\
                     | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for section in sections {
        for parameter in &section.parameters {
            let default = match &parameter.default {
                None | Some(Json::Null) => "---".to_owned(),
                Some(Json::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            let dynamic = if parameter.category == Some(Category::Dynamic) { "yes" } else { "no" };
            let remarks = match parameter.is_without_effect() {
                true => format!("{} Without effect.", parameter.meaning),
                false => parameter.meaning.clone(),
            };
            let cells = [section.section, parameter.key, &default, dynamic, &remarks];
            let _ = writeln!(table, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
        }
    }
    table
}

/// A document for each section, with every parameter that has an effect and a default.
pub fn sample(sections: &[SectionDeclaration]) -> Documents {
    let mut documents = Documents::new();
    for section in sections {
        let with_effect = section.parameters.iter().filter(|parameter| !parameter.is_without_effect());
        let defaults: Map<String, Json> =
            with_effect.filter_map(|p| Some((p.key.to_owned(), p.default.clone()?))).collect();
        if !defaults.is_empty() {
            documents.insert(section.section.to_owned(), Json::Object(defaults));
        }
    }
    documents
}

/// The sample for people: each document under its name, and before it a comment for each key. Keys without effect are
/// left out.
pub fn commented_sample(sections: &[SectionDeclaration]) -> String {
    let documents = sample(sections);
    let mut text = String::new();
    for section in sections {
        let Some(document) = documents.get(section.section) else { continue };
        if !text.is_empty() {
            text.push('\n');
        }
        comment(&mut text, "", &format!("{}: {}", section.section, section.meaning));
        comment(&mut text, "", "");
        for parameter in section.parameters.iter().filter(|parameter| !parameter.is_without_effect()) {
            comment_key(&mut text, "", parameter);
        }
        let _ = writeln!(text, "{document:#}");
    }
    text
}

/// What a key means, what is allowed, and when it takes effect; then the same for the fields of its objects.
fn comment_key(text: &mut String, list: &str, declaration: &Declaration) {
    let Declaration { key, allowed, category, meaning, .. } = declaration;
    comment(text, "", &format!("{list}{key} ({})", type_and_marks(declaration)));
    comment(text, "    ", meaning);
    let effect = match category {
        Some(category) => format!("Allowed: {allowed}. Takes effect: {category}."),
        None => format!("Allowed: {allowed}."),
    };
    comment(text, "    ", &effect);
    for field in &declaration.fields {
        comment_key(text, &format!("{list}{key}[]."), field);
    }
}

/// Longest line of a comment, in characters.
const COMMENT_WIDTH: usize = 100;

/// `//` and `words`, in lines that are not too long.
fn comment(text: &mut String, indent: &str, words: &str) {
    let mut line = format!("//{}", if words.is_empty() { "" } else { " " }) + indent;
    let mut length = 0;
    for word in words.split(' ') {
        if length > 0 && line.chars().count() + 1 + word.chars().count() > COMMENT_WIDTH {
            text.push_str(&line);
            text.push('\n');
            (line, length) = (format!("// {indent}"), 0);
        }
        if length > 0 {
            line.push(' ');
        }
        line.push_str(word);
        length += 1;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}
