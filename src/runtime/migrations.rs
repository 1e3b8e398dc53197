//! Migrations that this node drives, and daemons that are expected.

use mesh_daemon_core::identity::{EntityKeypair, MigrationId, NodeId};
use mesh_daemon_core::migration::MigrationOptions;
use mesh_daemon_core::wire::migration::Stage;
use napi::Result;
use napi::bindgen_prelude::{BigInt, Env, External};
use napi_derive::napi;

use super::{HostOptions, entry, host_config, origin_from, ticket_from, wait};
use crate::convert::u64_from;

/// Announces a daemon without its key.
#[napi]
pub fn runtime_expect_migration(
    env: Env,
    runtime: u32,
    kind: String,
    origin: BigInt,
    config: HostOptions,
) -> Result<()> {
    let (origin, config) = (origin_from(&origin)?, host_config(&config)?);
    entry(&env, runtime)?.try_with(&env, |engine, _| engine.expect_migration(&kind, origin, config, None))
}

/// Announces a daemon with its key.
#[napi(
    ts_args_type = "runtime: number, kind: string, identity: import('./handles').IdentityHandle, config: HostOptions"
)]
pub fn runtime_expect_identity(
    env: Env,
    runtime: u32,
    kind: String,
    identity: &External<EntityKeypair>,
    config: HostOptions,
) -> Result<()> {
    let keypair = EntityKeypair::clone(identity);
    let (origin, config) = (keypair.entity_id().origin_hash(), host_config(&config)?);
    entry(&env, runtime)?.try_with(&env, |engine, _| engine.expect_migration(&kind, origin, config, Some(keypair)))
}

/// Binds the only orchestrator that may bring an announced daemon.
#[napi]
pub fn runtime_bind_orchestrator(env: Env, runtime: u32, origin: BigInt, node: BigInt) -> Result<bool> {
    let (origin, node) = (origin_from(&origin)?, NodeId::new(u64_from(&node)?));
    Ok(entry(&env, runtime)?.with(|engine, _| engine.bind_orchestrator(origin, node)))
}

/// Starts a migration; `ticket` is settled when it is under way.
#[napi]
#[allow(clippy::too_many_arguments)] // the fields of the request
pub fn runtime_start_migration(
    env: Env,
    runtime: u32,
    ticket: f64,
    origin: BigInt,
    source: Option<BigInt>,
    target: BigInt,
    transport_identity: bool,
    retry_not_ready_ms: f64,
) -> Result<()> {
    let origin = origin_from(&origin)?;
    let source = source.as_ref().map(u64_from).transpose()?.map(NodeId::new);
    let target = NodeId::new(u64_from(&target)?);
    let options = MigrationOptions { transport_identity, retry_not_ready: wait(retry_not_ready_ms) };
    entry(&env, runtime)?
        .try_with(&env, |engine, now| engine.start_migration(ticket_from(ticket), origin, source, target, options, now))
}

/// Gives a migration up: cancelled, or timed out after so many milliseconds.
#[napi]
pub fn runtime_abort_migration(env: Env, runtime: u32, migration: BigInt, timeout_ms: Option<f64>) -> Result<()> {
    let migration = migration_from(&migration);
    entry(&env, runtime)?.with(|engine, now| engine.abort_migration(migration, timeout_ms.map(wait), now));
    Ok(())
}

/// The operator's word that the other copy of a daemon is gone; throws when nothing waits for it. `ticket` is settled.
#[napi]
pub fn runtime_recover(env: Env, runtime: u32, ticket: f64, origin: BigInt) -> Result<()> {
    let origin = origin_from(&origin)?;
    entry(&env, runtime)?.try_with(&env, |engine, now| engine.recover(ticket_from(ticket), origin, now))
}

/// Moves every daemon of this node to peers that can host it; `ticket` is settled.
#[napi]
pub fn runtime_drain(env: Env, runtime: u32, ticket: f64, timeout_ms: Option<f64>) -> Result<()> {
    entry(&env, runtime)?.try_with(&env, |engine, now| engine.drain(ticket_from(ticket), timeout_ms.map(wait), now))
}

/// Nobody waits for a drain with this ticket any more.
#[napi]
pub fn runtime_leave_drain(env: Env, runtime: u32, ticket: f64) -> Result<()> {
    entry(&env, runtime)?.with(|engine, now| engine.leave_drain(ticket_from(ticket), now));
    Ok(())
}

/// The phase of a migration that this node has a part in.
#[napi(ts_return_type = "import('./types/migration').MigrationPhase | null")]
pub fn runtime_migration_phase(env: Env, runtime: u32, origin: BigInt) -> Result<Option<&'static str>> {
    let origin = origin_from(&origin)?;
    Ok(entry(&env, runtime)?.with(|engine, _| engine.migration_phase(origin)).map(Stage::name))
}

/// A part in a migration.
#[napi(object, object_from_js = false)]
pub struct MigrationPart {
    /// Which daemon.
    pub origin_hash: BigInt,
    /// The part of this node.
    #[napi(ts_type = "import('./types/migration').MigrationRole")]
    pub role: &'static str,
    /// Where it lived.
    pub source_node: BigInt,
    /// Where it goes.
    pub target_node: BigInt,
    /// How far it is.
    #[napi(ts_type = "import('./types/migration').MigrationPhase")]
    pub phase: &'static str,
    /// Which attempt.
    pub attempt: u32,
}

/// All parts that this node has in migrations.
#[napi]
pub fn runtime_migrations(env: Env, runtime: u32) -> Result<Vec<MigrationPart>> {
    let parts = entry(&env, runtime)?.with(|engine, _| engine.migrations());
    let parts = parts.into_iter().map(|(role, origin, source, target, stage, attempt)| MigrationPart {
        origin_hash: origin.get().into(),
        role: role.name(),
        source_node: source.get().into(),
        target_node: target.get().into(),
        phase: stage.unwrap_or(Stage::Snapshot).name(),
        attempt,
    });
    Ok(parts.collect())
}

/// A migration's number; it came from this side.
fn migration_from(value: &BigInt) -> MigrationId {
    let (_, bits, _) = value.get_u128();
    MigrationId::new(bits)
}
