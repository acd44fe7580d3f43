//! Which request caused which: the programs that see what threads read and write, where the kernel
//! lets them.

use anyhow::Context as _;
use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, tp_btf::BtfTracePointLinkId},
};

use super::Attachment;

/// The programs, their tracepoints (Linux 6.3), and what they give together.
const PROGRAMS: [(&str, &str, &str); 2] = [
    (
        "observer_read",
        "sock_recv_length",
        "the request that a thread works on",
    ),
    (
        "observer_write",
        "sock_send_length",
        "which requests it makes for that one",
    ),
];
/// Their names.
pub(super) const NAMES: [&str; 2] = [PROGRAMS[0].0, PROGRAMS[1].0];

/// Loads and attaches them, both or none: each alone tells nothing.
pub(super) fn attach(ebpf: &mut Ebpf) -> Vec<Attachment> {
    let missing = attach_all(ebpf).err().map(|error| {
        tracing::debug!(%error, "threads are not looked at");
        reason(&error)
    });
    PROGRAMS
        .map(|(program, _, gives)| Attachment {
            program,
            gives,
            missing: missing.clone(),
        })
        .into()
}

fn attach_all(ebpf: &mut Ebpf) -> anyhow::Result<()> {
    let btf = Btf::from_sys_fs().context("no type information of the kernel (BTF)")?;
    for (name, tracepoint, _) in PROGRAMS {
        program(ebpf, name)?
            .load(tracepoint, &btf)
            .with_context(|| format!("cannot look at {tracepoint}"))?;
    }
    let mut attached: Vec<(&str, BtfTracePointLinkId)> = Vec::new();
    for (name, tracepoint, _) in PROGRAMS {
        match program(ebpf, name)?.attach() {
            Ok(link) => attached.push((name, link)),
            Err(error) => {
                for (name, link) in attached {
                    program(ebpf, name)?.detach(link)?;
                }
                return Err(error).with_context(|| format!("cannot attach to {tracepoint}"));
            }
        }
    }
    Ok(())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> anyhow::Result<&'a mut BtfTracePoint> {
    ebpf.program_mut(name)
        .with_context(|| format!("the object has no program {name}"))?
        .try_into()
        .with_context(|| format!("the program {name} is of an unexpected kind"))
}

/// Why, in a line that says what to do where that is known.
fn reason(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let says = |text: &str| causes.iter().any(|cause| cause.contains(text));
    if says("Operation not permitted") {
        return "CAP_PERFMON is needed as well".to_owned();
    }
    if says("btf_trace_sock_") {
        return "needs Linux 6.3 or later".to_owned();
    }
    let mut text = causes.join(": ");
    // What the verifier said is in the log.
    text.truncate(text.find('\n').unwrap_or(text.len()));
    text
}
