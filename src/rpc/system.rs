//! The methods about methods. They are asked without the id of the cluster.

use dxr::{Fault, Value};

use super::failed::NO_METHOD;
use super::table;
use super::values::{text, texts};

/// Many calls in one.
pub(super) const MULTICALL: &str = "system.multicall";
const LIST_METHODS: &str = "system.listMethods";
const METHOD_HELP: &str = "system.methodHelp";

/// Calls of one `system.multicall`.
const CALLS: usize = 1000;

/// Their names, with what they do.
pub(super) const METHODS: &[(&str, &str)] = &[
    (LIST_METHODS, "The names of all methods. No argument."),
    (METHOD_HELP, "What a method does, and whether it does. One string: its name."),
    (
        MULTICALL,
        "Many calls, one after the other: `[{methodName, params}]`; gives `[result]` or a fault for each.",
    ),
];

/// The answer, if `name` is a method about methods.
pub(super) fn answer(name: &str, parameters: &[Value]) -> Option<Result<Value, Fault>> {
    match name {
        LIST_METHODS => {
            let about = METHODS.iter().map(|(name, _)| *name);
            Some(Ok(texts(table::all().map(|method| method.name).chain(about))))
        }
        METHOD_HELP => Some(help(parameters)),
        MULTICALL => Some(Err(fault("Recursive system.multicall is not allowed"))),
        _ => None,
    }
}

fn fault(message: &str) -> Fault {
    Fault::new(NO_METHOD, message.to_owned())
}

fn help(parameters: &[Value]) -> Result<Value, Fault> {
    let [Value::String(name)] = parameters else {
        return Err(fault("system.methodHelp: Invalid argument type: give the name of a method"));
    };
    if let Some(method) = table::find(name) {
        return Ok(text(&format!("{} [{}]", method.help, method.standing)));
    }
    let found = METHODS.iter().find(|(known, _)| known == name);
    found.map(|(_, help)| text(help)).ok_or_else(|| fault("system.methodHelp: Unknown method name"))
}

/// A call with its parameters, or why it is none.
type Call = Result<(String, Vec<Value>), Fault>;

/// The calls of a `system.multicall`.
pub(super) fn calls(parameters: Vec<Value>) -> Result<Vec<Call>, Fault> {
    let calls = dxr::multicall::from_multicall_params(parameters)
        .map_err(|_| fault("system.multicall: Invalid argument: give an array of {methodName, params}"))?;
    if calls.len() > CALLS {
        return Err(fault(&format!("system.multicall: {} calls are more than {CALLS}", calls.len())));
    }
    let malformed = |_| fault("system.multicall: Invalid argument type: a call is {methodName, params}");
    Ok(calls.into_iter().map(|call| call.map_err(malformed)).collect())
}
