//! Rules of the configuration that name services.

use regex_lite::Regex;

/// Names the processes that it matches. All matchers that are set must match; a rule without any
/// matches nothing.
#[derive(Clone, Debug, Default)]
pub struct ServiceRule {
    /// Executable path.
    pub executable: Option<Glob>,
    /// Thread name of the process (`/proc/PID/comm`, at most 15 bytes).
    pub command: Option<Glob>,
    /// Cgroup path below the cgroup root.
    pub cgroup: Option<Glob>,
    /// Port that the process serves. Its outgoing connections match too.
    pub port: Option<u16>,
    /// Command line, arguments joined by spaces, of which the first 2048 bytes are kept.
    pub command_line: Option<Regex>,
    /// `service.name` to give.
    pub service: String,
    /// `service.namespace` to give; `None` leaves what the process's environment says.
    pub namespace: Option<String>,
}

/// What a rule is matched against.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Subject<'a> {
    /// Executable path; empty when unknown.
    pub(super) executable: &'a str,
    /// Thread name.
    pub(super) command: &'a str,
    /// Cgroup path; empty when unknown.
    pub(super) cgroup: &'a str,
    /// Command line.
    pub(super) command_line: &'a str,
    /// Ports: the one of the connection if it was accepted, else all that the process serves.
    pub(super) ports: &'a [u16],
}

/// A shell-like pattern over a whole text: `?` is one character and `*` any number of them, both
/// without `/`; `**` is any number of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Vec<Token>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Exactly(char),
    One,
    Many,
    All,
}

// === impl ServiceRule ===

impl ServiceRule {
    /// Does the rule name this process?
    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        let glob = |glob: &Option<Glob>, text| glob.as_ref().is_none_or(|glob| glob.matches(text));
        let any = self.executable.is_some()
            || self.command.is_some()
            || self.cgroup.is_some()
            || self.port.is_some()
            || self.command_line.is_some();
        any && self.port.is_none_or(|port| subject.ports.contains(&port))
            && glob(&self.executable, subject.executable)
            && glob(&self.command, subject.command)
            && glob(&self.cgroup, subject.cgroup)
            && self
                .command_line
                .as_ref()
                .is_none_or(|regex| regex.is_match(subject.command_line))
    }
}

// === impl Glob ===

impl Glob {
    /// Reads a pattern; every text is one.
    pub fn new(pattern: &str) -> Self {
        let mut tokens: Vec<Token> = Vec::new();
        for letter in pattern.chars() {
            match (letter, tokens.last_mut()) {
                ('*', Some(last @ (Token::Many | Token::All))) => *last = Token::All,
                ('*', _) => tokens.push(Token::Many),
                ('?', _) => tokens.push(Token::One),
                (letter, _) => tokens.push(Token::Exactly(letter)),
            }
        }
        Self(tokens)
    }

    /// Does the whole of `text` match? Takes time of pattern times text, never more.
    pub fn matches(&self, text: &str) -> bool {
        // The set of tokens that may be next, as in a nondeterministic automaton.
        let mut reached = vec![false; self.0.len() + 1];
        if let Some(start) = reached.first_mut() {
            *start = true;
        }
        self.skip_empty(&mut reached);
        for letter in text.chars() {
            let mut next = vec![false; reached.len()];
            for (index, token) in self.0.iter().enumerate() {
                if !reached.get(index).copied().unwrap_or(false) {
                    continue;
                }
                let target = match token {
                    Token::Exactly(wanted) if *wanted == letter => index + 1,
                    Token::One if letter != '/' => index + 1,
                    Token::Many if letter != '/' => index,
                    Token::All => index,
                    _ => continue,
                };
                if let Some(state) = next.get_mut(target) {
                    *state = true;
                }
            }
            self.skip_empty(&mut next);
            reached = next;
        }
        reached.last().copied().unwrap_or(false)
    }

    fn skip_empty(&self, reached: &mut [bool]) {
        for (index, token) in self.0.iter().enumerate() {
            if matches!(token, Token::Many | Token::All)
                && reached.get(index) == Some(&true)
                && let Some(state) = reached.get_mut(index + 1)
            {
                *state = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("/usr/bin/curl", "/usr/bin/curl", true),
            ("/usr/bin/curl", "/usr/bin/curl2", false),
            ("/usr/bin/python*", "/usr/bin/python3.11", true),
            ("/usr/*/curl", "/usr/local/bin/curl", false),
            ("/usr/**/curl", "/usr/local/bin/curl", true),
            ("**", "", true),
            ("", "", true),
            ("", "a", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("*a*b*", "xaxbx", true),
            ("*a*b", "xaxbx", false),
            ("/kubepods.slice/**", "/kubepods.slice/a/b.scope", true),
            ("é*", "été", true),
        ] {
            assert_eq!(
                Glob::new(pattern).matches(text),
                expected,
                "{pattern} {text}"
            );
        }
        // Would take for ever with backtracking.
        assert!(!Glob::new(&"*a".repeat(40)).matches(&"a".repeat(39)));
    }

    #[test]
    fn all_matchers_must_match() {
        let subject = Subject {
            executable: "/usr/bin/java",
            command: "java",
            cgroup: "/system.slice/shop.service",
            command_line: "java -Dapp=cart -jar x.jar",
            ports: &[80, 8080],
        };
        let rule = ServiceRule {
            executable: Some(Glob::new("**/java")),
            ..ServiceRule::default()
        };
        assert!(rule.matches(&subject));
        let rule = ServiceRule {
            port: Some(8080),
            ..rule
        };
        assert!(rule.matches(&subject));
        let rule = ServiceRule {
            command_line: Some(Regex::new("app=ca..").unwrap()),
            ..rule
        };
        assert!(rule.matches(&subject));
        let rule = ServiceRule {
            cgroup: Some(Glob::new("/system.slice/*")),
            ..rule
        };
        assert!(rule.matches(&subject));
        assert!(
            !ServiceRule {
                port: Some(81),
                ..rule.clone()
            }
            .matches(&subject)
        );
        assert!(
            !ServiceRule {
                command: Some(Glob::new("x")),
                ..rule.clone()
            }
            .matches(&subject)
        );
        assert!(
            !ServiceRule::default().matches(&subject),
            "no matcher, no match"
        );
    }
}
