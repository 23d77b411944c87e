//! The macro that declares parameters.

/// Declares parameters: one struct for each kind of object in a list (in a block `objects { … }`), one for each
/// section, and the struct that holds all sections.
///
/// A parameter is `key: Type = default, Category [, unit "…"] [, range a..=b];` with its meaning as doc comment; a
/// field of an object has no category, and without a default it is required. The [crate] documentation has an example.
/// The holder gets `declarations()`, `read(documents, no_effect_keys)` and `documents()`.
#[macro_export]
macro_rules! parameters {
    (
        $(#[$root_meta:meta])*
        pub struct $root:ident;
        $(objects {
            $(
                $(#[doc = $object_doc:literal])+
                $object:ident {
                    $(
                        $(#[doc = $field_doc:literal])+
                        $field:ident: $field_type:ty $(= $field_default:expr)? $(, unit $field_unit:literal)?
                        $(, range $field_range:expr)?;
                    )+
                }
            )+
        })?
        $(
            $(#[doc = $section_doc:literal])+
            section $section:ident: $struct:ident {
                $(
                    $(#[doc = $doc:literal])+
                    $key:ident: $type:ty = $default:expr, $category:ident $(, unit $unit:literal)?
                    $(, range $range:expr)?;
                )+
            }
        )+
    ) => {
        $($(
            $crate::parameter_object! {
                $(#[doc = $object_doc])+
                $object {
                    $(
                        $(#[doc = $field_doc])+
                        $field: $field_type, [$($field_default)?], [$($field_unit)?], [$($field_range)?];
                    )+
                }
            }
        )+)?
        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug, PartialEq)]
            pub struct $struct { $($(#[doc = $doc])+ pub $key: $type,)+ }

            impl Default for $struct {
                fn default() -> Self {
                    $struct { $($key: $default,)+ }
                }
            }

            impl $struct {
                fn declaration() -> $crate::SectionDeclaration {
                    let default = Self::default();
                    $crate::SectionDeclaration {
                        section: stringify!($section),
                        meaning: $crate::paragraph(&[$($section_doc),+]),
                        parameters: vec![$($crate::declared::<$type>(
                            stringify!($key),
                            $crate::paragraph(&[$($doc),+]),
                            Some(&default.$key),
                            $crate::optional!($($unit)?),
                            $crate::optional!($($range)?),
                            Some($crate::Category::$category),
                        )),+],
                    }
                }

                fn read(documents: &$crate::Documents, reader: &mut $crate::Reader<'_>) -> Self {
                    let object = reader.section(documents, stringify!($section));
                    let mut place = reader.place(stringify!($section));
                    place.undeclared(object, &[$(stringify!($key)),+]);
                    $struct { $($key: place.field::<$type>(object, stringify!($key), $crate::optional!($($range)?))
                        .unwrap_or_else(|| $default),)+ }
                }

                fn write(&self) -> $crate::serde_json::Value {
                    let mut object = $crate::serde_json::Map::new();
                    $(object.insert(stringify!($key).to_owned(), <$type as $crate::Parameter>::write(&self.$key));)+
                    $crate::serde_json::Value::Object(object)
                }
            }
        )+

        $(#[$root_meta])*
        #[derive(Clone, Debug, PartialEq, Default)]
        pub struct $root { $($(#[doc = $section_doc])+ pub $section: $struct,)+ }

        impl $root {
            /// All sections with their parameters, in the order of declaration.
            pub fn declarations() -> Vec<$crate::SectionDeclaration> {
                vec![$($struct::declaration()),+]
            }

            /// Typed values from `documents`. `no_effect_keys` are sections with keys that are accepted and reported
            /// as having no effect.
            pub fn read(
                documents: &$crate::Documents,
                no_effect_keys: &[(&str, &[&str])],
            ) -> $crate::Reading<$root> {
                let mut reader = $crate::Reader::new(no_effect_keys);
                let parameters = $root { $($section: $struct::read(documents, &mut reader),)+ };
                reader.other_sections(documents, &[$(stringify!($section)),+]);
                reader.finish(parameters)
            }

            /// Every value, defaults included, in canonical form: reading it back gives an equal struct.
            pub fn documents(&self) -> $crate::Documents {
                [$((stringify!($section).to_owned(), self.$section.write())),+].into()
            }
        }
    };
}

/// The struct of one kind of object in list parameters.
#[doc(hidden)]
#[macro_export]
macro_rules! parameter_object {
    (
        $(#[doc = $object_doc:literal])+
        $object:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty, [$($default:expr)?], [$($unit:expr)?], [$($range:expr)?];
            )+
        }
    ) => {
        $(#[doc = $object_doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $object { $($(#[doc = $doc])+ pub $field: $type,)+ }

        impl $crate::ParameterObject for $object {
            fn fields() -> Vec<$crate::Declaration> {
                vec![$($crate::declared::<$type>(
                    stringify!($field),
                    $crate::paragraph(&[$($doc),+]),
                    $crate::optional!($($default)?).as_ref(),
                    $crate::optional!($($unit)?),
                    $crate::optional!($($range)?),
                    None,
                )),+]
            }

            fn read(
                object: &$crate::serde_json::Map<String, $crate::serde_json::Value>,
                place: &mut $crate::Place<'_, '_>,
            ) -> Option<$object> {
                place.undeclared(Some(object), &[$(stringify!($field)),+]);
                // All fields are read before any missing one ends it: every problem is reported at once.
                $(let $field = $crate::read_or!(place, object, $field, $type, [$($default)?], [$($range)?]);)+
                Some($object { $($field: $field?,)+ })
            }

            fn write(&self) -> $crate::serde_json::Value {
                let mut object = $crate::serde_json::Map::new();
                $(object.insert(stringify!($field).to_owned(), <$type as $crate::Parameter>::write(&self.$field));)+
                $crate::serde_json::Value::Object(object)
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! read_or {
    ($place:ident, $object:ident, $field:ident, $type:ty, [], [$($range:expr)?]) => {
        $place.required::<$type>(Some($object), stringify!($field), $crate::optional!($($range)?))
    };
    ($place:ident, $object:ident, $field:ident, $type:ty, [$default:expr], [$($range:expr)?]) => {
        match $object.contains_key(stringify!($field)) {
            true => $place.field::<$type>(Some($object), stringify!($field), $crate::optional!($($range)?)),
            false => Some($default),
        }
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
