//! Certificates: do they read, does the key belong to them, do they hold, will the other members trust them.

use std::time::{Duration, SystemTime};

use quorate_server::{CertificateUse, ServeConfig};

use super::Findings;

const DAY: Duration = Duration::from_secs(86_400);
/// With less left, somebody must make new ones.
const SOON: u64 = 30;

pub(super) fn examine(config: &ServeConfig) -> Findings {
    let mut found = Findings::about("certificates");
    for used in config.certificates() {
        look_at(&mut found, &used, SystemTime::now());
    }
    found
}

fn look_at(found: &mut Findings, used: &CertificateUse, now: SystemTime) {
    let name = format!("{} ({})", used.certificate.display(), used.table);
    let validity = match used.validity() {
        Ok(validity) => validity,
        Err(error) => {
            return found.bad(error.to_string(), "name a PEM file that holds a certificate");
        }
    };
    if validity.from > now {
        return found.bad(
            format!("{name} is not valid yet"),
            "is the clock right? else wait, or have another one made",
        );
    }
    let Ok(left) = validity.until.duration_since(now) else {
        let days = now.duration_since(validity.until).unwrap_or_default().as_secs() / DAY.as_secs();
        return found.bad(
            format!("{name} expired {days} days ago"),
            "have a new one made, and restart the node",
        );
    };
    if let Err(error) = used.verify(now) {
        let mend = "the certificate must be the key's, be signed by `ca`, and name the host in this member's `member` address";
        return found.bad(format!("{name}: {error}"), mend);
    }
    let days = left.as_secs() / DAY.as_secs();
    if days < SOON {
        found.warn(format!("{name} expires in {days} days"), "have a new one made");
    } else {
        found.ok(format!("{name} holds for {days} days, and fits its key"));
    }
}
