//! Rust source as far as the checks need it: text without comments and strings, tokens, paths, functions, test code.

use std::iter::Peekable;
use std::ops::RangeInclusive;
use std::slice::Iter;

/// The source with the insides of comments, strings and character literals replaced by blanks; lines stay lines.
pub(super) fn mask(source: &str) -> String {
    let text: Vec<char> = source.chars().collect();
    let mut masked = String::with_capacity(source.len());
    let mut at = 0;
    while at < text.len() {
        let end = match literal_end(&text, at) {
            Some(end) => end.min(text.len()),
            None => {
                masked.push(text[at]);
                at += 1;
                continue;
            }
        };
        masked.extend(text[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    masked
}

/// If a comment or literal begins at `at`: where it ends.
fn literal_end(text: &[char], at: usize) -> Option<usize> {
    let next = |offset: usize| text.get(at + offset).copied();
    match (text[at], next(1)) {
        ('/', Some('/')) => Some(at + text[at..].iter().take_while(|&&c| c != '\n').count()),
        ('/', Some('*')) => Some(block_comment_end(text, at)),
        ('"', _) => Some(string_end(text, at + 1)),
        ('r', Some('"' | '#')) if at == 0 || !is_word(text[at - 1]) || is_prefix(text, at) => {
            raw_end(text, at + 1)
        }
        ('\'', Some('\\')) => {
            // The escaped character itself may be a quote.
            Some(at + 3 + text[(at + 3).min(text.len())..].iter().take_while(|&&c| c != '\'').count() + 1)
        }
        ('\'', Some(_)) if next(2) == Some('\'') => Some(at + 3),
        _ => None,
    }
}

/// Whether the `r` at `at` follows the `b` or `c` of a byte or C string.
fn is_prefix(text: &[char], at: usize) -> bool {
    matches!(text[at - 1], 'b' | 'c') && (at == 1 || !is_word(text[at - 2]))
}

fn block_comment_end(text: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut end = at;
    while end < text.len() {
        match (text[end], text.get(end + 1)) {
            ('/', Some('*')) => (depth, end) = (depth + 1, end + 2),
            ('*', Some('/')) => (depth, end) = (depth - 1, end + 2),
            _ => end += 1,
        }
        if depth == 0 {
            break;
        }
    }
    end
}

fn string_end(text: &[char], mut at: usize) -> usize {
    while at < text.len() {
        match text[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// `at` stands behind the `r`. `None`: a raw identifier.
fn raw_end(text: &[char], at: usize) -> Option<usize> {
    let hashes = text[at..].iter().take_while(|&&c| c == '#').count();
    if text.get(at + hashes) != Some(&'"') {
        return None;
    }
    let mut end = at + hashes + 1;
    while end < text.len() {
        if text[end] == '"' && text[end + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes {
            return Some(end + 1 + hashes);
        }
        end += 1;
    }
    Some(end)
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A word, `::`, or any other visible character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    Separator,
    Other(char),
}

/// Tokens of masked source with their lines, from 1.
pub(super) fn tokens(masked: &str) -> Vec<(Token, usize)> {
    let mut tokens = Vec::new();
    for (number, line) in masked.lines().enumerate() {
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            let token = if is_word(c) {
                let mut word = String::from(c);
                while let Some(more) = chars.next_if(|&c| is_word(c)) {
                    word.push(more);
                }
                Token::Word(word)
            } else if c == ':' && chars.next_if_eq(&':').is_some() {
                Token::Separator
            } else if c.is_whitespace() {
                continue;
            } else {
                Token::Other(c)
            };
            tokens.push((token, number + 1));
        }
    }
    tokens
}

/// Every path in the source, `use a::{b, c::d}` taken apart into `a::b` and `a::c::d`.
pub(super) fn paths(tokens: &[(Token, usize)]) -> Vec<(Vec<String>, usize)> {
    let mut found = Vec::new();
    let mut rest = tokens.iter().peekable();
    while let Some((token, _)) = rest.peek() {
        if matches!(token, Token::Word(_)) {
            path(&mut rest, &[], &mut found);
        } else {
            rest.next();
        }
    }
    found
}

fn path(
    rest: &mut Peekable<Iter<'_, (Token, usize)>>,
    before: &[String],
    found: &mut Vec<(Vec<String>, usize)>,
) {
    let mut segments = before.to_vec();
    let mut last_line = 0;
    while let Some((Token::Word(word), line)) = rest.peek() {
        segments.push(word.clone());
        last_line = *line;
        rest.next();
        if rest.next_if(|(token, _)| *token == Token::Separator).is_none() {
            break;
        }
        if rest.next_if(|(token, _)| *token == Token::Other('{')).is_some() {
            while let Some((token, _)) = rest.peek() {
                match token {
                    Token::Word(_) => path(rest, &segments, found),
                    Token::Other('}') => {
                        rest.next();
                        return;
                    }
                    _ => {
                        rest.next();
                    }
                }
            }
            return;
        }
    }
    found.push((segments, last_line));
}

/// A function with its first and last line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) lines: RangeInclusive<usize>,
}

/// Functions with bodies, inner ones too.
pub(super) fn functions(tokens: &[(Token, usize)]) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        let [(Token::Word(keyword), first), (Token::Word(name), _)] = pair else { continue };
        if keyword != "fn" {
            continue;
        }
        let Some(body) = body_start(&tokens[at..]) else { continue };
        let last = block_end(&tokens[at + body..]);
        found.push(Function { name: name.clone(), lines: *first..=last });
    }
    found
}

/// The offset of the `{` that opens a function's body; `None` for a declaration without one.
fn body_start(tokens: &[(Token, usize)]) -> Option<usize> {
    let mut nested = 0;
    for (offset, (token, _)) in tokens.iter().enumerate() {
        match token {
            Token::Other('(' | '[') => nested += 1,
            Token::Other(')' | ']') => nested -= 1,
            Token::Other('{') if nested == 0 => return Some(offset),
            Token::Other(';') if nested == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The line of the `}` that closes the `{` at the start.
fn block_end(tokens: &[(Token, usize)]) -> usize {
    let mut nested = 0;
    for (token, line) in tokens {
        match token {
            Token::Other('{') => nested += 1,
            Token::Other('}') => nested -= 1,
            _ => {}
        }
        if nested == 0 {
            return *line;
        }
    }
    tokens.last().map_or(0, |(_, line)| *line)
}

/// Lines of items under `#[cfg(test)]`; the whole file where its path says that it is test code.
pub(super) fn test_lines(path: &str, tokens: &[(Token, usize)]) -> Vec<RangeInclusive<usize>> {
    if path.split('/').any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs")) {
        return std::iter::once(1..=usize::MAX).collect();
    }
    let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
    let same = |(token, _): &(Token, usize), word: &str| match token {
        Token::Word(text) => text == word,
        Token::Other(c) => word.starts_with(*c) && word.len() == 1,
        Token::Separator => false,
    };
    let mut found = Vec::new();
    for (at, window) in tokens.windows(attribute.len()).enumerate() {
        if !window.iter().zip(attribute).all(|(token, word)| same(token, word)) {
            continue;
        }
        let behind = &tokens[at + attribute.len()..];
        if let Some(body) = body_start(behind) {
            found.push(window[0].1..=block_end(&behind[body..]));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(source: &str) -> Vec<String> {
        let tokens = tokens(&mask(source));
        paths(&tokens).into_iter().map(|(path, line)| format!("{}@{line}", path.join("::"))).collect()
    }

    #[test]
    fn comments_and_literals_are_blanked_and_code_is_not() {
        let source = "a /* b /* c */ d */ e // f\n\
                      \"g \\\" h\" i 'j' '\\'' k<'l> r#\"m \" n\"# o br\"p\" q '\\u{1}' s r#type";
        let masked = mask(source);
        let words: Vec<&str> = masked.split(|c| !is_word(c)).filter(|word| !word.is_empty()).collect();
        assert_eq!(words, ["a", "e", "i", "k", "l", "o", "b", "q", "s", "r", "type"]);
        assert_eq!(masked.lines().count(), source.lines().count());
    }

    #[test]
    fn use_trees_are_taken_apart_over_lines() {
        let found = seen("use std::{fs::{self, File}, io as x,\n time::Instant};\nlet a = b::c(d);");
        for path in ["std::fs::self@1", "std::fs::File@1", "std::io@1", "std::time::Instant@2", "b::c@3"] {
            assert!(found.contains(&path.to_string()), "{path} not in {found:?}");
        }
    }

    #[test]
    fn functions_end_where_their_braces_do() {
        let source = "fn a(x: [u8; 2])\nwhere T: U,\n{\n if b { c }\n}\ntrait T { fn d(); }\nlet e: fn(u8);";
        let found = functions(&tokens(&mask(source)));
        assert_eq!(found, [Function { name: "a".into(), lines: 1..=5 }]);
    }

    #[test]
    fn test_code_is_known_by_attribute_or_path() {
        let source =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\n#[cfg(test)]\nmod other;\nfn c() {}";
        let tokens = tokens(&mask(source));
        assert_eq!(test_lines("src/a.rs", &tokens), [2..=5]);
        assert_eq!(test_lines("tests/a.rs", &tokens), [1..=usize::MAX]);
        assert_eq!(test_lines("src/a/tests.rs", &tokens), [1..=usize::MAX]);
    }
}
