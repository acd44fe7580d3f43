//! What a process runs: its executable, or the script, module or archive that an interpreter runs.
//!
//! The bias: an interpreter's name is given only where nothing better can be read from the
//! arguments, and what is given is always a name that the operator typed, without folders.

/// An interpreter and how its arguments are read.
struct Interpreter {
    /// Base name without version digits (`python3.11` is `python`).
    name: &'static str,
    /// Words that may stand before the script (`deno run`).
    commands: &'static [&'static str],
    /// Options whose value is the next argument.
    valued: &'static [&'static str],
    /// Options whose value is the program itself, by name: a module.
    module: &'static [&'static str],
    /// Options whose value is the program's text: it has no name.
    inline: &'static [&'static str],
    /// Endings of its scripts.
    endings: &'static [&'static str],
}

const INTERPRETERS: &[Interpreter] = &[
    Interpreter {
        name: "python",
        commands: &[],
        valued: &["-W", "-X", "--check-hash-based-pycs"],
        module: &["-m"],
        inline: &["-c"],
        endings: &[".py", ".pyc", ".pyz"],
    },
    Interpreter {
        name: "pypy",
        commands: &[],
        valued: &["-W", "-X"],
        module: &["-m"],
        inline: &["-c"],
        endings: &[".py", ".pyc", ".pyz"],
    },
    Interpreter {
        name: "node",
        commands: &[],
        valued: &[
            "-r",
            "--require",
            "--import",
            "--loader",
            "--experimental-loader",
            "-C",
            "--conditions",
            "--title",
            "--env-file",
        ],
        module: &[],
        inline: &["-e", "--eval", "-p", "--print"],
        endings: &[".js", ".mjs", ".cjs", ".ts", ".mts"],
    },
    Interpreter {
        name: "deno",
        commands: &["run", "serve"],
        valued: &["-c", "--config", "--import-map", "--port", "--host"],
        module: &[],
        inline: &["eval"],
        endings: &[".ts", ".js", ".mjs", ".tsx"],
    },
    Interpreter {
        name: "bun",
        commands: &["run"],
        valued: &["-r", "--preload", "--port", "--config", "-c"],
        module: &[],
        inline: &["-e", "--eval"],
        endings: &[".ts", ".js", ".mjs", ".tsx"],
    },
    Interpreter {
        name: "ruby",
        commands: &[],
        valued: &["-r", "-I", "-C", "-E", "-W"],
        module: &[],
        inline: &["-e"],
        endings: &[".rb"],
    },
    Interpreter {
        name: "perl",
        commands: &[],
        valued: &["-I"],
        module: &[],
        inline: &["-e", "-E"],
        endings: &[".pl"],
    },
    Interpreter {
        name: "php",
        commands: &[],
        valued: &["-S", "-t", "-d", "-c", "-z"],
        module: &["-f", "--file"],
        inline: &["-r", "--run"],
        endings: &[".php", ".phar"],
    },
    Interpreter {
        name: "dotnet",
        commands: &["exec", "run"],
        valued: &[
            "--fx-version",
            "--depsfile",
            "--runtimeconfig",
            "--additionalprobingpath",
        ],
        module: &["--project"],
        inline: &[],
        endings: &[".dll"],
    },
    Interpreter {
        name: "java",
        commands: &[],
        valued: &[
            "-cp",
            "-classpath",
            "--class-path",
            "-p",
            "--module-path",
            "--upgrade-module-path",
            "--add-modules",
            "--add-opens",
            "--add-exports",
            "--add-reads",
            "--limit-modules",
            "--patch-module",
        ],
        module: &["-jar", "-m", "--module"],
        inline: &[],
        endings: &[],
    },
    shell("sh"),
    shell("bash"),
    shell("dash"),
    shell("ash"),
    shell("ksh"),
    shell("zsh"),
];

/// Longest name, bytes.
const MAX_NAME: usize = 128;

/// Name of the program of a process, `None` when neither argument tells.
///
/// `executable` is the target of `/proc/PID/exe`, empty where it could not be read; then the first
/// argument stands for it.
pub(super) fn program(executable: &str, arguments: &[&str]) -> Option<String> {
    let executable = executable.strip_suffix(" (deleted)").unwrap_or(executable);
    let first = arguments.first().copied().unwrap_or_default();
    let mut base = base_name(executable);
    let mut arguments = arguments.get(1..).unwrap_or_default();
    if base.is_empty() {
        base = base_name(first).trim_start_matches('-');
    } else if base == "busybox" || base == "toybox" {
        base = base_name(first);
        if matches!(base, "busybox" | "toybox") {
            base = arguments.first().copied().unwrap_or(base);
            arguments = arguments.get(1..).unwrap_or_default();
        }
    } else if base.starts_with("ld-linux") || base.starts_with("ld-musl") {
        base = arguments.first().map_or(base, |program| base_name(program));
        arguments = arguments.get(1..).unwrap_or_default();
    }
    let name = match interpreter(base) {
        Some(interpreter) => title(first, interpreter)
            .or_else(|| script(interpreter, arguments))
            .unwrap_or_else(|| base.to_owned()),
        None => base.to_owned(),
    };
    let name: String = name.chars().filter(|letter| !letter.is_control()).collect();
    let name = name
        .get(..name.floor_char_boundary(MAX_NAME))
        .unwrap_or_default()
        .trim();
    (!name.is_empty()).then(|| name.to_owned())
}

const fn shell(name: &'static str) -> Interpreter {
    Interpreter {
        name,
        commands: &[],
        valued: &["-o", "+o", "-O", "+O", "--rcfile", "--init-file"],
        module: &[],
        inline: &["-c"],
        endings: &[".sh"],
    }
}

fn interpreter(base: &str) -> Option<&'static Interpreter> {
    let stem = base.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    let stem = stem.strip_suffix('-').unwrap_or(stem);
    // Debian installs Node as `nodejs` too.
    let stem = if stem == "nodejs" { "node" } else { stem };
    INTERPRETERS
        .iter()
        .find(|interpreter| interpreter.name == stem)
}

/// A title that the program gave itself, by writing over its arguments: `gunicorn: master [app]`,
/// `puma 6.4 (tcp://..)`, `npm run start`. An untouched first argument names the interpreter.
fn title(first: &str, own: &Interpreter) -> Option<String> {
    let word = first.split([' ', ':']).next().unwrap_or_default();
    let base = base_name(word).trim_start_matches('-');
    let untouched = base.is_empty()
        || base.starts_with(own.name)
        || interpreter(base).is_some()
        || !first.contains([' ', ':']);
    (!untouched).then(|| base.to_owned())
}

fn script(interpreter: &Interpreter, arguments: &[&str]) -> Option<String> {
    let mut rest = arguments.iter().copied();
    let mut commands = interpreter.commands.iter();
    while let Some(argument) = rest.next() {
        if commands.as_slice().contains(&argument) {
            commands = [].iter();
        } else if interpreter.inline.contains(&argument) {
            return None;
        } else if interpreter.module.contains(&argument) {
            return rest.next().map(|module| module_name(interpreter, module));
        } else if interpreter.valued.contains(&argument) {
            rest.next();
        } else if argument == "--" {
            return rest.next().map(|script| script_name(interpreter, script));
        } else if let Some(letters) = cluster(argument) {
            // Single letters may stand together: `python3 -um http.server`, `bash -lc '..'`.
            let last = letters
                .get(letters.len().saturating_sub(1)..)
                .unwrap_or_default();
            let ends_in = |options: &[&str]| {
                letters.len() > 1
                    && interpreter.name != "java"
                    && options
                        .iter()
                        .any(|option| option.strip_prefix('-') == Some(last))
            };
            if ends_in(interpreter.inline) {
                return None;
            }
            if ends_in(interpreter.module) {
                return rest.next().map(|module| module_name(interpreter, module));
            }
        } else if !argument.starts_with(['-', '+', '@']) && !argument.is_empty() {
            return Some(match interpreter.name {
                "java" => module_name(interpreter, argument),
                _ => script_name(interpreter, argument),
            });
        }
    }
    None
}

/// The letters of a cluster of single-letter options, `-um`.
fn cluster(argument: &str) -> Option<&str> {
    let letters = argument.strip_prefix('-')?;
    letters
        .bytes()
        .all(|byte| byte.is_ascii_alphabetic())
        .then_some(letters)
}

/// Modules and classes keep their dots, archives and files do not keep their endings.
fn module_name(interpreter: &Interpreter, module: &str) -> String {
    if let Some(archive) = base_name(module).strip_suffix(".jar") {
        return without_version(archive).to_owned();
    }
    match interpreter.name {
        // `-m module/main.Class`.
        "java" => base_name(module).to_owned(),
        "dotnet" => base_name(module)
            .strip_suffix(".csproj")
            .unwrap_or(base_name(module))
            .into(),
        "php" => script_name(interpreter, module),
        _ => module
            .strip_suffix(".__main__")
            .unwrap_or(module)
            .to_owned(),
    }
}

fn script_name(interpreter: &Interpreter, path: &str) -> String {
    let base = base_name(path);
    let stem = interpreter
        .endings
        .iter()
        .find_map(|ending| base.strip_suffix(ending))
        .filter(|stem| !stem.is_empty())
        .unwrap_or(base);
    if stem == "__main__" {
        // A package that is run by its folder.
        let folder = path.rsplit('/').nth(1).filter(|folder| !folder.is_empty());
        return folder.unwrap_or(stem).to_owned();
    }
    stem.to_owned()
}

/// `orders-1.4.2-SNAPSHOT` is `orders`: a new version is the same service.
fn without_version(archive: &str) -> &str {
    let version = archive.match_indices('-').find(|(at, _)| {
        let rest = archive.get(at + 1..).unwrap_or_default();
        rest.starts_with(|letter: char| letter.is_ascii_digit()) && rest.contains('.')
    });
    version
        .and_then(|(at, _)| archive.get(..at))
        .filter(|name| !name.is_empty())
        .unwrap_or(archive)
}

fn base_name(path: &str) -> &str {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs() {
        for (executable, command_line, expected) in [
            ("/usr/sbin/nginx", "nginx: worker process", "nginx"),
            (
                "/usr/sbin/nginx (deleted)",
                "nginx: master process nginx",
                "nginx",
            ),
            ("/usr/bin/curl", "curl http://x/", "curl"),
            ("/memfd:run (deleted)", "x", "memfd:run"),
            // Not readable: the first argument stands in.
            (
                "",
                "/usr/lib/postgresql/15/bin/postgres -D /data",
                "postgres",
            ),
            ("", "python3 /srv/shop.py", "shop"),
            ("", "-bash", "bash"),
            // Python.
            (
                "/usr/bin/python3.11",
                "python3 -m http.server 8000",
                "http.server",
            ),
            (
                "/usr/bin/python3.11",
                "python3 -um http.server",
                "http.server",
            ),
            (
                "/usr/bin/python3.11",
                "python3 -u -W ignore /srv/app.py --port 1",
                "app",
            ),
            (
                "/usr/bin/python3.11",
                "/usr/bin/python3 /usr/bin/gunicorn app:app",
                "gunicorn",
            ),
            ("/usr/bin/python3.11", "python3 -c pass x", "python3.11"),
            ("/usr/bin/python3.11", "python3", "python3.11"),
            (
                "/usr/bin/python3.11",
                "python3 /srv/orders/__main__.py",
                "orders",
            ),
            (
                "/usr/bin/python3.11",
                "python3 -m orders.__main__",
                "orders",
            ),
            // JavaScript.
            ("/usr/bin/node", "node server.js", "server"),
            (
                "/usr/bin/nodejs",
                "nodejs --require ./tracing.js /srv/shop.mjs",
                "shop",
            ),
            (
                "/usr/bin/node",
                "node --max-old-space-size=512 /app/node_modules/.bin/next",
                "next",
            ),
            ("/usr/bin/node", "node -e 1", "node"),
            ("/usr/bin/deno", "deno run --allow-net api.ts", "api"),
            ("/usr/bin/bun", "bun run cart.ts", "cart"),
            // Others.
            ("/usr/bin/ruby3.1", "ruby -I lib bin/worker.rb", "worker"),
            ("/usr/bin/perl", "perl -w /usr/bin/ack", "ack"),
            ("/usr/bin/php8.2", "php -S 0:80 -t /srv", "php8.2"),
            ("/usr/bin/php8.2", "php artisan serve", "artisan"),
            ("/usr/sbin/php-fpm8.2", "php-fpm: pool www", "php-fpm8.2"),
            ("/usr/bin/dash", "sh -c curl", "dash"),
            ("/usr/bin/bash", "bash -lc curl", "bash"),
            ("/usr/bin/bash", "/bin/bash /opt/poll.sh now", "poll"),
            ("/usr/bin/dotnet", "dotnet /app/Shop.Api.dll", "Shop.Api"),
            ("/bin/busybox", "httpd -f -p 80", "httpd"),
            ("/bin/busybox", "busybox httpd -f", "httpd"),
            ("/bin/busybox", "sh /run.sh", "run"),
            ("/lib64/ld-linux-x86-64.so.2", "ld /opt/tool --x", "tool"),
            // Java.
            (
                "/opt/jdk/bin/java",
                "java -Xmx1g -jar /srv/orders-1.4.2-SNAPSHOT.jar",
                "orders",
            ),
            ("/opt/jdk/bin/java", "java -jar web-ui.jar", "web-ui"),
            (
                "/opt/jdk/bin/java",
                "java -cp a.jar:b.jar org.shop.Main -x",
                "org.shop.Main",
            ),
            (
                "/opt/jdk/bin/java",
                "java -p mods -m shop/org.shop.Main",
                "org.shop.Main",
            ),
            (
                "/opt/jdk/bin/java",
                "java -Dx=1 -server kafka.Kafka c.properties",
                "kafka.Kafka",
            ),
        ] {
            let arguments: Vec<&str> = command_line.split(' ').collect();
            let found = program(executable, &arguments);
            assert_eq!(
                found.as_deref(),
                Some(expected),
                "{executable} {command_line}"
            );
        }
    }

    #[test]
    fn titles() {
        for (executable, title, expected) in [
            (
                "/usr/bin/python3.11",
                "gunicorn: master [app:app]",
                "gunicorn",
            ),
            (
                "/usr/bin/ruby3.1",
                "puma 6.4.0 (tcp://0.0.0.0:3000) [shop]",
                "puma",
            ),
            ("/usr/bin/node", "npm run start", "npm"),
            ("/usr/bin/perl", "/usr/bin/starman master -l :80", "starman"),
        ] {
            assert_eq!(
                program(executable, &[title]).as_deref(),
                Some(expected),
                "{title}"
            );
        }
    }

    #[test]
    fn nothing_to_go_by() {
        assert_eq!(program("", &[]), None);
        assert_eq!(program("", &[""]), None);
        assert_eq!(program("/", &["\u{1}"]), None);
        assert_eq!(program("/x", &[]).as_deref(), Some("x"));
        let long = format!("/bin/{}", "é".repeat(200));
        assert!(program(&long, &[]).unwrap().len() <= MAX_NAME);
    }
}
