//! Who shows which key to whom in a fleet.
//!
//! `XGRAFT_API_KEY` and the like in the environment are for the balancer alone. Its servers are told what they want: the key
//! for backends if there is one, else the clients' first, so that nobody else on the machine gets past the balancer. And the
//! balancer shows them just that.

use xgraft_balancer::fleet::Member;

use crate::args::Balance;

/// What the environment has for servers and balancers.
const NAMES: [&str; 4] = [
    API_KEY,
    ADMIN_KEY,
    "XGRAFT_BACKEND_KEY",
    "XGRAFT_BACKEND_ADMIN_KEY",
];
const API_KEY: &str = "XGRAFT_API_KEY";
const ADMIN_KEY: &str = "XGRAFT_ADMIN_KEY";

/// What the servers want.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) user: Option<String>,
    pub(crate) admin: Option<String>,
}

impl Keys {
    /// As the balancer's arguments and environment say.
    pub(crate) fn of(balance: &Balance) -> Self {
        let first = |keys: &[String]| keys.first().cloned();
        let user = balance.backend_key.clone();
        let admin = balance.backend_admin_key.clone();
        Self {
            user: user.or_else(|| first(&balance.listen.api_key)),
            admin: admin.or_else(|| first(&balance.listen.admin_key)),
        }
    }

    /// Lets the balancer show them.
    pub(super) fn show(&self, balance: &mut Balance) {
        balance.backend_key.clone_from(&self.user);
        balance.backend_admin_key.clone_from(&self.admin);
    }

    /// Lets a server want them, unless the file itself says what it wants.
    pub(super) fn want(&self, member: &mut Member) {
        member.without_env = NAMES.map(str::to_owned).to_vec();
        let wanted = [(API_KEY, &self.user), (ADMIN_KEY, &self.admin)];
        for (name, key) in wanted {
            let is_said = member.env.iter().any(|(known, _)| known == name);
            if let Some(key) = key.as_ref().filter(|_| !is_said) {
                member.env.push((name.to_owned(), key.clone()));
            }
        }
    }
}
