//! Identities: policy that names somebody who never comes, or who comes without a name, and TLS that
//! is for somebody else.

use anyhow::Result;
use observer_tests::{
    certificates::Authority,
    mesh::{Member, Plane, Spec, traffic::Requests},
    process,
    server::Server,
};

use super::{Case, Scene, case, check, requests, slow};

/// TLS of its own, as the application `web`; others speak what they ever do.
fn serve_tls(member: &Member<'_>) -> Result<Server> {
    if member.workload != "web" {
        return slow(member);
    }
    let authority = Authority::create()?;
    let pair = authority.sign("web", &["DNS:web"])?;
    let directives = format!(
        "ssl_certificate {}; ssl_certificate_key {};",
        pair.certificate.display(),
        pair.key.display()
    );
    member.serve_with("ssl", &directives)
}

/// `stranger` speaks TLS to `web`.
fn ask_in_tls(scene: &Scene<'_>) -> Result<()> {
    let address = scene.target.dialled()?;
    let mut command = scene.stranger.app()?.command("curl")?;
    command.args(["--silent", "--show-error", "--fail", "--max-time", "20"]);
    command.args(["--insecure", "--header", "Connection: close", "--resolve"]);
    command.arg(format!("web:{}:{}", address.port(), address.ip()));
    command.arg(format!("https://web:{}/hop?[1-30]", address.port()));
    process::check(&mut command).map(drop)
}

#[test]
fn policy_for_somebody_who_never_comes_or_has_no_name() -> Result<()> {
    const GHOST: &str = "allows identity cluster.local/ns/shop/sa/ghost";
    const FRONT: &str = "allows identity cluster.local/ns/shop/sa/front";
    check(&Case {
        stranger_asks: Some(("/plain", 30, 200)),
        expected: &[
            ("M03", &["web"]),
            ("M26", &["web", GHOST]),
            ("M27", &["web", "stranger"]),
        ],
        absent: &[("M26", &[FRONT]), ("M27", &["front"])],
        ..case("grants")
    })
}

#[test]
fn tls_for_somebody_else_and_two_proxies_of_one_pod() -> Result<()> {
    check(&Case {
        front: Spec {
            annotations: &[("ambient.istio.io/redirection", "enabled")],
            ..Spec::new("front", Plane::Istio)
        },
        other: Some(Spec::new("other", Plane::Istio)),
        serves: serve_tls,
        more: |scene| {
            // At once, for each to need a connection of its own between the proxies.
            let all = Requests {
                at_once: 8,
                ..requests(scene.target, "/slow", 8)?
            };
            all.expect(&scene.front.app()?, 401)?;
            ask_in_tls(scene)
        },
        expected: &[
            ("M04", &["web", "stranger"]),
            ("M29", &["web"]),
            ("M31", &["front", "other"]),
            ("M34", &["front"]),
        ],
        absent: &[("M34", &["other"]), ("M34", &["web"])],
        ..case("nothing")
    })
}

#[test]
fn calls_of_somebody_who_is_not_registered_and_tls_that_is_declared() -> Result<()> {
    check(&Case {
        port: "https",
        serves: serve_tls,
        front_asks: &[],
        leaves: 30,
        more: ask_in_tls,
        expected: &[("M28", &["front"])],
        ..case("egress")
    })
}
