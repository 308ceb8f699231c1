//! Principals: who may ask. A root principal may do everything everywhere; one of a tenant has some of
//! read, write and admin within it. Names are unique within a tenant (and among root principals), held
//! by the history: all changes of one name have one sequence of numbers, so two that make the same name
//! at once cannot both commit.
//!
//! A revoked principal keeps its record, so that the history of what it did keeps its meaning. Its
//! tokens and access keys are refused as soon as those who check have heard of it (30 seconds at most).
//! The last root principal cannot be revoked.

use crate::coordination::values::{from_json, to_json};
use crate::coordination::{Compare, KeyValue, Operation, layout};
use crate::domain::ids::PrincipalId;
use crate::domain::{Refusal, RefusalKind, TenantName};
use crate::services::ports::{Caller, Capability};

use super::history::{ATTEMPTS_MAX, Change, contended, refusal};
use super::plane::ControlPlane;
use super::records::PrincipalRecord;
use super::sealed::unreadable;
use super::tenants::{json, no_tenant};

const NAME_BYTES_MAX: usize = 100;

/// What a new principal is to be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrincipalRequest {
    /// Its name.
    pub name: String,
    /// Its tenant; none for a root principal.
    #[serde(default)]
    pub tenant: Option<TenantName>,
    /// What it may do within its tenant; empty for root, who may do everything.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
}

impl ControlPlane {
    /// Makes a principal.
    ///
    /// # Errors
    /// `BadInput`, `NotFound` for a tenant that is not there, `Conflict` where the name is taken.
    pub async fn principal_create(
        &self,
        caller: &Caller,
        request: PrincipalRequest,
    ) -> Result<PrincipalRecord, Refusal> {
        check(&request)?;
        for _ in 0..ATTEMPTS_MAX {
            let mut compares = Vec::new();
            let tenant = match &request.tenant {
                None => None,
                Some(name) => {
                    let Some((tenant, entry)) = self.tenant_read(name).await? else { return Err(no_tenant(name)) };
                    compares.push(Compare::unchanged(&entry.key, Some(&entry)));
                    Some((tenant.id, tenant.name))
                }
            };
            let mut capabilities = request.capabilities.clone();
            capabilities.sort();
            capabilities.dedup();
            let record = PrincipalRecord {
                id: PrincipalId::random(self.random.as_ref()),
                name: request.name.clone(),
                tenant,
                capabilities,
                created_at: self.now(),
                revoked_at: None,
            };
            // Read before the names are: one that is taken in between changes it, and this does not commit.
            let head_key = layout::control_history(&resource_of(&record), 0);
            let head = self.coordinator.get(&head_key).await.map_err(refusal)?;
            compares.push(Compare::unchanged(&head_key, head.as_ref()));
            let taken =
                self.principal_list(request.tenant.as_ref()).await?.into_iter().any(|other| {
                    other.revoked_at.is_none() && other.name == record.name && other.tenant == record.tenant
                });
            if taken {
                return Err(Refusal::conflict(format!("there is a principal {:?} already", record.name)));
            }
            let key = layout::control_principal(record.id);
            compares.push(Compare::absent(&key));
            let done = self
                .commit(Change {
                    resource: resource_of(&record),
                    who: &caller.name,
                    before: None,
                    after: Some(json(&record)),
                    compares,
                    operations: vec![Operation::put(&key, to_json(&record))],
                })
                .await?;
            if done {
                return Ok(record);
            }
        }
        Err(contended())
    }

    /// Principals: all, or a tenant's.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn principal_list(&self, tenant: Option<&TenantName>) -> Result<Vec<PrincipalRecord>, Refusal> {
        let records = self.records::<PrincipalRecord>(layout::CONTROL_PRINCIPALS).await?;
        let wanted = |record: &PrincipalRecord| {
            tenant.is_none_or(|tenant| record.tenant.as_ref().is_some_and(|(_, name)| name == tenant))
        };
        Ok(records.into_iter().map(|(_, record)| record).filter(wanted).collect())
    }

    /// One principal.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub async fn principal(&self, id: PrincipalId) -> Result<PrincipalRecord, Refusal> {
        Ok(self.principal_read(id).await?.0)
    }

    /// The root principal that `init` made, or the oldest that is left.
    ///
    /// # Errors
    /// `NotFound` where all were removed from the coordinator by hand.
    pub async fn principal_root(&self) -> Result<PrincipalRecord, Refusal> {
        let records = self.principal_list(None).await?;
        records
            .into_iter()
            .filter(|record| record.tenant.is_none() && record.revoked_at.is_none())
            .min_by_key(|record| record.created_at)
            .ok_or_else(|| {
                Refusal::not_found("there is no root principal; restore the coordinator or the recovery file")
            })
    }

    /// A principal as a caller, for what another component asks in its name.
    ///
    /// # Errors
    /// `Denied` where it is not there or was revoked.
    pub async fn caller(&self, id: PrincipalId) -> Result<Caller, Refusal> {
        match self.principal_read(id).await {
            Ok((record, _)) if record.revoked_at.is_none() => Ok(caller_of(&record)),
            Ok(_) => Err(Refusal::new(RefusalKind::Denied, "the principal was revoked")),
            Err(refusal) if refusal.kind == RefusalKind::NotFound => {
                Err(Refusal::new(RefusalKind::Denied, "there is no such principal"))
            }
            Err(refusal) => Err(refusal),
        }
    }

    pub(super) async fn principal_read(&self, id: PrincipalId) -> Result<(PrincipalRecord, KeyValue), Refusal> {
        let key = layout::control_principal(id);
        let entry = self.coordinator.get(&key).await.map_err(refusal)?;
        let entry = entry.ok_or_else(|| no_principal(id))?;
        let record = from_json(&entry.value).map_err(|_| unreadable(&key))?;
        Ok((record, entry))
    }

    /// Revokes a principal, and with it its tokens and access keys.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for the last root principal.
    pub async fn principal_revoke(&self, caller: &Caller, id: PrincipalId) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let (before, entry) = self.principal_read(id).await?;
            if before.revoked_at.is_some() {
                return Ok(());
            }
            let mut compares = vec![Compare::unchanged(&entry.key, Some(&entry))];
            if before.tenant.is_none() {
                compares.push(self.another_root(id).await?);
            }
            let after = PrincipalRecord { revoked_at: Some(self.now()), ..before.clone() };
            let done = self
                .commit(Change {
                    resource: resource_of(&after),
                    who: &caller.name,
                    before: Some(json(&before)),
                    after: Some(json(&after)),
                    compares,
                    operations: vec![Operation::put(&entry.key, to_json(&after))],
                })
                .await?;
            if done {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// That another root principal is there and stays so.
    async fn another_root(&self, id: PrincipalId) -> Result<Compare, Refusal> {
        for (entry, record) in self.records::<PrincipalRecord>(layout::CONTROL_PRINCIPALS).await? {
            if record.tenant.is_none() && record.revoked_at.is_none() && record.id != id {
                return Ok(Compare::unchanged(&entry.key, Some(&entry)));
            }
        }
        Err(Refusal::conflict("the last root principal cannot be revoked; make another one first"))
    }
}

/// The refusal for a principal that is not there, or not for the caller to know of.
pub fn no_principal(id: PrincipalId) -> Refusal {
    Refusal::not_found(format!("there is no principal {id}"))
}

/// A principal as whoever has proved to be it.
pub(super) fn caller_of(record: &PrincipalRecord) -> Caller {
    Caller {
        principal: record.id,
        name: record.name.clone(),
        tenant: record.tenant.clone(),
        capabilities: record.capabilities.clone(),
    }
}

fn resource_of(record: &PrincipalRecord) -> String {
    let tenant = record.tenant.as_ref().map_or("-", |(_, name)| name.as_str());
    let name: String = record.name.chars().map(|letter| if letter == '/' { '_' } else { letter }).collect();
    format!("principal/{tenant}/{name}")
}

fn check(request: &PrincipalRequest) -> Result<(), Refusal> {
    let name = &request.name;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(|letter| letter.is_control() || letter == '/')
    {
        return Err(Refusal::bad_input("a principal's name is 1 to 100 bytes without control characters and '/'"));
    }
    match (&request.tenant, request.capabilities.is_empty()) {
        (None, false) => Err(Refusal::bad_input("a root principal may do everything; name a tenant to give it less")),
        (Some(_), true) => Err(Refusal::bad_input("say what the principal may do: read, write, admin")),
        _ => Ok(()),
    }
}
