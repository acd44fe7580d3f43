//! How fast services spend what they may fail (Site Reliability Workbook, chapter 5): an objective of
//! 99.9% of requests, over 30 days, watched in a long and a short window at once.

use super::{Alert, Group, Record, Rule};
use crate::dashboards::{
    boards::SERVICE,
    contract,
    query::{Query, count},
};

/// Share of requests that may fail.
const BUDGET: &str = "0.001";

/// Windows that are recorded, in order: their length, and whether they are added up of windows of five
/// minutes, as reading days of raw series each time would be dear.
const WINDOWS: [(&str, bool); 7] = [
    ("5m", false),
    ("30m", false),
    ("1h", false),
    ("2h", false),
    ("6h", false),
    ("1d", true),
    ("3d", true),
];

/// What is told when a budget is spent so many times as fast as it may.
struct Burn {
    factor: &'static str,
    long: &'static str,
    /// Seconds in the long window.
    seconds: f64,
    short: &'static str,
    severity: &'static str,
    /// Share of the budget of 30 days that is gone by then.
    spent: &'static str,
    hold: &'static str,
}

const BURNS: [Burn; 4] = [
    Burn {
        factor: "14.4",
        long: "1h",
        seconds: 3_600.0,
        short: "5m",
        severity: "critical",
        spent: "2%",
        hold: "2m",
    },
    Burn {
        factor: "6",
        long: "6h",
        seconds: 21_600.0,
        short: "30m",
        severity: "critical",
        spent: "5%",
        hold: "15m",
    },
    Burn {
        factor: "3",
        long: "1d",
        seconds: 86_400.0,
        short: "2h",
        severity: "warning",
        spent: "10%",
        hold: "1h",
    },
    Burn {
        factor: "1",
        long: "3d",
        seconds: 259_200.0,
        short: "6h",
        severity: "warning",
        spent: "10%",
        hold: "3h",
    },
];

/// Requests that the long window must have: of fewer, one that failed says nothing of the service.
const FEWEST: &str = "100";

/// The records of a window: requests and failed requests per second, and their ratio.
fn records((window, added): (&str, bool)) -> [Record; 3] {
    let raw = |window: &str| {
        let all = || count(&contract::HTTP_SERVER_DURATION);
        let requests = all().rate(window).sum(SERVICE);
        let errors = all().not("error_type", "").rate(window).sum(SERVICE);
        (requests, errors)
    };
    let name = |what: &str| format!("service:slo_{what}:rate{window}");
    let (requests, errors) = match added {
        false => raw(window),
        true => {
            let (requests, errors) = of_five_minutes();
            // Windows of five minutes come every 30 seconds, as long as there are any.
            let mean = |record: &Record| {
                let sum = record.series().sum_over(window).sum(SERVICE);
                sum.times(30.0 / seconds(window))
            };
            (mean(&requests), mean(&errors))
        }
    };
    let requests = Record::new(&name("requests"), requests);
    let errors = Record::new(&name("errors"), errors.or_zero_of(&requests.now()));
    let ratio = errors.now().by(requests.now().above("0"));
    let ratio = Record::new(&format!("service:slo_errors:ratio_rate{window}"), ratio);
    [requests, errors, ratio]
}

fn of_five_minutes() -> (Record, Record) {
    let [requests, errors, _] = records(("5m", false));
    (requests, errors)
}

fn seconds(window: &str) -> f64 {
    let burn = BURNS.iter().find(|burn| burn.long == window);
    burn.map_or(f64::NAN, |burn| burn.seconds)
}

/// The ratio of a window.
fn ratio(window: &str) -> Query {
    let [.., ratio] = records((window, false));
    ratio.now()
}

pub(super) fn recording() -> Group {
    Group {
        name: "observer-slo",
        interval: "30s",
        rules: WINDOWS
            .into_iter()
            .flat_map(records)
            .map(Rule::Record)
            .collect(),
    }
}

pub(super) fn alerts() -> Group {
    let rules = BURNS.iter().map(|burn| {
        let limit = format!("({} * {BUDGET})", burn.factor);
        let [requests, ..] = records((burn.long, false));
        let enough = requests.now().times(burn.seconds).above(FEWEST);
        let query = ratio(burn.long)
            .above(&limit)
            .and(ratio(burn.short).above(&limit))
            .and(enough);
        Rule::Alert(Alert {
            name: "ObserverErrorBudgetBurn",
            hold: burn.hold,
            severity: burn.severity,
            more: match burn.long {
                "1h" => &[("window", "1h")],
                "6h" => &[("window", "6h")],
                "1d" => &[("window", "1d")],
                _ => &[("window", "3d")],
            },
            summary: "{{ $labels.service_namespace }}/{{ $labels.service_name }} fails more requests than its objective allows",
            description: match burn.spent {
                "2%" => "{{ $value | humanizePercentage }} of requests failed in the last hour, and it goes on: 2% of what may fail in 30 days is gone in an hour.",
                "5%" => "{{ $value | humanizePercentage }} of requests failed in the last 6 hours, and it goes on: 5% of what may fail in 30 days is gone in 6 hours.",
                _ => "{{ $value | humanizePercentage }} of requests failed in the last days, and it goes on: 10% of what may fail in 30 days is gone.",
            },
            query,
        })
    });
    Group {
        name: "observer-slo-alerts",
        interval: "30s",
        rules: rules.collect(),
    }
}
