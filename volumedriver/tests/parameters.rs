//! Every parameter, walked by its declaration.

use std::collections::BTreeSet;

use cfg_schema::Declaration;
use volumedriver::parameters::Parameters;

/// Adds `section key` of parameters and of their fields, those as `list[].field`.
fn add_names(names: &mut BTreeSet<String>, prefix: &str, declarations: &[Declaration]) {
    for declaration in declarations {
        let name = format!("{prefix}{}", declaration.key);
        add_names(names, &format!("{name}[]."), &declaration.fields);
        names.insert(name);
    }
}

#[test]
fn every_parameter_of_the_original_is_declared() {
    let mut declared = BTreeSet::new();
    for section in Parameters::declarations() {
        let prefix = format!("{} ", section.section);
        add_names(&mut declared, &prefix, &section.parameters);
        if section.numbered.is_some() {
            declared.insert(format!("{prefix}<N>"));
        }
    }
    let original: Vec<&str> = include_str!("original_parameters.txt").lines().collect();
    let missing: Vec<&&str> = original.iter().filter(|name| !declared.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert_eq!(original.len(), 201);
}
