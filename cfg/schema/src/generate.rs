//! What is generated from declarations: the reference page, the JSON schema, a sample.

use std::fmt::Write;

use serde_json::{Map, Value as Json, json};

use crate::{Declaration, Documents, SectionDeclaration};

/// The reference as Markdown: a table for each section.
pub fn reference_markdown(title: &str, introduction: &str, sections: &[SectionDeclaration]) -> String {
    let mut page = format!("# {title}\n\n{introduction}\n");
    for section in sections {
        // Writing to a string cannot fail.
        let _ = write!(page, "\n## `{}`\n\n{}\n\n", section.section, section.meaning);
        page.push_str(
            "| key | type | default | allowed | takes effect | meaning |\n|---|---|---|---|---|---|\n",
        );
        for parameter in &section.parameters {
            row(&mut page, "", parameter);
        }
    }
    page
}

fn row(page: &mut String, list: &str, declaration: &Declaration) {
    let Declaration { key, type_name, unit, default, allowed, category, meaning, .. } = declaration;
    let unit = unit.map(|unit| format!(", {unit}")).unwrap_or_default();
    let default = match default {
        None => "required".to_owned(),
        Some(Json::String(text)) => format!("`{text}`"),
        Some(other) => format!("`{other}`"),
    };
    let category = category.map(|category| category.to_string()).unwrap_or_default();
    let cells = [
        format!("`{list}{key}`"),
        format!("{type_name}{unit}"),
        default,
        allowed.clone(),
        category,
        meaning.clone(),
    ];
    let _ = writeln!(page, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
    for field in &declaration.fields {
        row(page, &format!("{list}{key}[]."), field);
    }
}

/// A JSON schema (draft 2020-12) of an object that holds every section as a property. Unknown keys are allowed, as
/// they are when documents are read.
pub fn json_schema(title: &str, sections: &[SectionDeclaration]) -> Json {
    let properties: Map<String, Json> = sections
        .iter()
        .map(|section| {
            let mut schema = object_schema(&section.parameters);
            schema["description"] = json!(section.meaning);
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
        properties.insert(field.key.to_owned(), schema);
    }
    let required: Vec<&str> =
        fields.iter().filter(|field| field.default.is_none()).map(|field| field.key).collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// A document for each section with every parameter that has a default.
pub fn sample(sections: &[SectionDeclaration]) -> Documents {
    let parameters = |section: &SectionDeclaration| -> Map<String, Json> {
        let defaults = section.parameters.iter().filter_map(|p| Some((p.key.to_owned(), p.default.clone()?)));
        defaults.collect()
    };
    sections.iter().map(|section| (section.section.to_owned(), Json::Object(parameters(section)))).collect()
}
