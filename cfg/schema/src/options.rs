//! What a declaration says beside type, default and category.

use std::ops::RangeInclusive;

/// The first version; parameters that do not say when they came have been there since.
pub const FIRST_VERSION: &str = "0.1.0";

/// The options of one declaration. `B` is the bound of the parameter's type.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Options<B> {
    /// `unit "pages"`: unit of a plain number, or of a duration whose name does not say it.
    pub unit: Option<&'static str>,
    /// `range 1..=8`
    pub range: Option<RangeInclusive<B>>,
    /// `since "0.2.0"`
    pub since: &'static str,
    /// `secret`
    pub secret: bool,
    /// `identity`
    pub identity: bool,
}

impl<B> Options<B> {
    /// Nothing said.
    pub const fn new() -> Options<B> {
        Options { unit: None, range: None, since: FIRST_VERSION, secret: false, identity: false }
    }
}

impl<B> Default for Options<B> {
    fn default() -> Options<B> {
        Options::new()
    }
}

/// The options of a declaration: names, each with its value if it has one.
#[doc(hidden)]
#[macro_export]
macro_rules! options {
    ($type:ty; $($option:ident $($value:expr)?,)*) => {{
        #[allow(unused_mut, reason = "there may be no options")]
        let mut options = $crate::Options::<<$type as $crate::Parameter>::Bound>::new();
        $($crate::set_option!(options, $option $($value)?);)*
        options
    }};
}

/// Sets one option; a word that is none does not compile.
#[doc(hidden)]
#[macro_export]
macro_rules! set_option {
    ($options:ident, unit $value:expr) => {
        $options.unit = Some($value)
    };
    ($options:ident, range $value:expr) => {
        $options.range = Some($value)
    };
    ($options:ident, since $value:expr) => {
        $options.since = $value
    };
    ($options:ident, secret) => {
        $options.secret = true
    };
    ($options:ident, identity) => {
        $options.identity = true
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}
