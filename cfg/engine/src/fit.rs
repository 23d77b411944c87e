//! Cutting what is too long: a feedback and a status always fit into one request to the store.

use crate::feedback::{Applied, Feedback, Mixed, Pending, Rejected, Runs};

/// Cuts texts and lists of a feedback, and says how much is left out, until its JSON has at most `bytes`.
pub(crate) fn fit(feedback: Feedback, mut length: usize, mut characters: usize, bytes: usize) -> Feedback {
    loop {
        let mut cut = feedback.clone();
        cut_lists(&mut cut, length);
        cut_texts(&mut cut, characters);
        if cut.text().len() <= bytes || (length <= 1 && characters <= 1) {
            return cut;
        }
        (length, characters) = ((length / 2).max(1), (characters / 2).max(1));
    }
}

fn cut_lists(feedback: &mut Feedback, length: usize) {
    let (nothing, more) = (String::new, |left_out: usize| format!("and {left_out} more"));
    shorten_list(&mut feedback.applied, length, |n| Applied {
        component: nothing(),
        param: more(n),
        old: nothing(),
        new: nothing(),
    });
    pending(&mut feedback.pending_restart, length);
    shorten_list(&mut feedback.mixed, length, |n| Mixed {
        component: nothing(),
        param: more(n),
        old: nothing(),
        new: nothing(),
        runs: Runs::Old,
        problem: None,
    });
    problems(&mut feedback.rejected, length);
    shorten_list(&mut feedback.no_effect, length, more);
    shorten_list(&mut feedback.unknown, length, more);
}

fn cut_texts(feedback: &mut Feedback, characters: usize) {
    let mut texts: Vec<&mut String> = Vec::new();
    for Applied { param, old, new, .. } in &mut feedback.applied {
        texts.extend([param, old, new]);
    }
    for Mixed { param, old, new, problem, .. } in &mut feedback.mixed {
        texts.extend([param, old, new].into_iter().chain(problem));
    }
    texts.extend(pending_texts(&mut feedback.pending_restart));
    texts.extend(problem_texts(&mut feedback.rejected));
    texts.extend(feedback.no_effect.iter_mut().chain(&mut feedback.unknown));
    texts.into_iter().for_each(|text| shorten(text, characters));
}

/// Cuts the lists of a status.
pub(crate) fn fit_status(status: &mut crate::Status, length: usize, characters: usize) {
    problems(&mut status.degraded, length);
    pending(&mut status.pending_restart, length);
    problem_texts(&mut status.degraded).for_each(|text| shorten(text, characters));
    pending_texts(&mut status.pending_restart).for_each(|text| shorten(text, characters));
}

fn pending(list: &mut Vec<Pending>, length: usize) {
    shorten_list(list, length, |n| Pending {
        component: String::new(),
        param: format!("and {n} more"),
        running: String::new(),
        stored: String::new(),
    });
}

fn problems(list: &mut Vec<Rejected>, length: usize) {
    shorten_list(list, length, |n| Rejected {
        component: String::new(),
        param: String::new(),
        value: None,
        problem: format!("and {n} more"),
    });
}

fn pending_texts(list: &mut [Pending]) -> impl Iterator<Item = &mut String> {
    list.iter_mut().flat_map(|Pending { param, running, stored, .. }| [param, running, stored])
}

fn problem_texts(list: &mut [Rejected]) -> impl Iterator<Item = &mut String> {
    list.iter_mut().flat_map(|Rejected { component, param, value, problem }| {
        [component, param, problem].into_iter().chain(value)
    })
}

/// Cuts `text` to so many characters.
fn shorten(text: &mut String, characters: usize) {
    if let Some((end, _)) = text.char_indices().nth(characters) {
        text.truncate(end);
        text.push('…');
    }
}

/// Cuts `list` to so many entries, the last of which says how many are left out.
fn shorten_list<T>(list: &mut Vec<T>, length: usize, last: impl FnOnce(usize) -> T) {
    if list.len() > length {
        let keep = length.saturating_sub(1);
        let left_out = list.len() - keep;
        list.truncate(keep);
        list.push(last(left_out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;

    fn applied(n: usize, text: &str) -> Applied {
        Applied { component: "c".into(), param: n.to_string(), old: text.into(), new: text.into() }
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let mut feedback = Feedback::new("a", "n", 1, Outcome::Applied);
        feedback.applied = (0..5).map(|n| applied(n, "ééééé")).collect();
        feedback.unknown = vec!["k".into(); 3];
        assert_eq!(fit(feedback.clone(), 5, 5, 10_000), feedback, "what fits is left alone");
        let cut = fit(feedback.clone(), 3, 4, 10_000);
        assert_eq!(cut.applied.len(), 3);
        assert_eq!((cut.applied[1].old.as_str(), cut.applied[2].param.as_str()), ("éééé…", "and …"));
        feedback.unknown = vec!["\u{1}".repeat(1000); 2000];
        let cut = fit(feedback, 2000, 1000, 20_000);
        assert!(cut.text().len() <= 20_000 && cut.text().len() > 2_000, "{}", cut.text().len());
        assert!(cut.unknown.last().is_some_and(|last| last.starts_with("and ")));
    }

    #[test]
    fn a_status_is_cut_too() {
        let mut status = crate::Status::default();
        let problem =
            Rejected { component: "c".into(), param: "p".into(), value: None, problem: "x".repeat(50) };
        status.degraded = vec![problem; 9];
        fit_status(&mut status, 3, 20);
        assert_eq!(status.degraded.len(), 3);
        assert_eq!(status.degraded[2].problem, "and 7 more");
        assert_eq!(status.degraded[0].problem.chars().count(), 21);
    }
}
