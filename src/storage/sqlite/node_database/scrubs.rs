//! How far the scrub is, in the node's database: a row for each replica, and when the present round began. And which
//! replicas are not to be believed any more.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::domain::Timestamp;
use crate::domain::ids::ReplicaId;
use crate::storage::node_database::{ScrubProgress, ScrubRecord};

/// The row of `meta` that says when the round began.
const ROUND: &str = "scrub_round_began";

pub(super) fn read(connection: &Connection) -> rusqlite::Result<ScrubProgress> {
    let sql = "SELECT replica, file, next_page, verified_at, digested_at FROM scrubs ORDER BY replica";
    let mut statement = connection.prepare_cached(sql)?;
    let files = statement.query_map([], record)?.collect::<rusqlite::Result<_>>()?;
    let began: Option<i64> =
        connection.query_row("SELECT value FROM meta WHERE name = ?1", [ROUND], |row| row.get(0)).optional()?;
    Ok(ScrubProgress { round_began: began.map(|at| Timestamp(at as u64)), files })
}

pub(super) fn begin_round(connection: &Connection, at: Timestamp) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute(params![ROUND, at.0 as i64]).map(|_| ())
}

pub(super) fn put(connection: &Connection, record: &ScrubRecord) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO scrubs (replica, file, next_page, verified_at, digested_at)
               VALUES (?1, ?2, ?3, ?4, ?5)";
    let time = |at: Option<Timestamp>| at.map(|at| at.0 as i64);
    let values = params![
        record.replica.as_bytes(),
        record.file as i64,
        record.next_page as i64,
        time(record.verified_at),
        time(record.digested_at)
    ];
    connection.prepare_cached(sql)?.execute(values).map(|_| ())
}

pub(super) fn remove(connection: &Connection, replica: ReplicaId) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM distrusted WHERE replica = ?1", [replica.as_bytes()])?;
    connection.execute("DELETE FROM scrubs WHERE replica = ?1", [replica.as_bytes()]).map(|_| ())
}

pub(super) fn distrusted(connection: &Connection) -> rusqlite::Result<Vec<(ReplicaId, String)>> {
    let mut statement = connection.prepare_cached("SELECT replica, reason FROM distrusted ORDER BY replica")?;
    statement.query_map([], |row| Ok((ReplicaId::from_bytes(row.get(0)?), row.get(1)?)))?.collect()
}

pub(super) fn distrust(connection: &mut Connection, replicas: &[ReplicaId], reason: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for replica in replicas {
        let sql = "INSERT OR IGNORE INTO distrusted (replica, reason) VALUES (?1, ?2)";
        transaction.prepare_cached(sql)?.execute(params![replica.as_bytes(), reason])?;
    }
    transaction.commit()
}

fn record(row: &Row<'_>) -> rusqlite::Result<ScrubRecord> {
    let time = |at: Option<i64>| at.map(|at| Timestamp(at as u64));
    Ok(ScrubRecord {
        replica: ReplicaId::from_bytes(row.get(0)?),
        file: row.get::<_, i64>(1)? as u64,
        next_page: row.get::<_, i64>(2)? as u64,
        verified_at: time(row.get(3)?),
        digested_at: time(row.get(4)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sqlite::migrate::{NODE, migrate};

    #[test]
    fn what_was_done_is_known_after_a_restart() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, NODE).unwrap();
        assert_eq!(read(&connection).unwrap(), ScrubProgress::default());
        let record = |number: u8, verified_at| ScrubRecord {
            replica: ReplicaId::from_bytes([number; 16]),
            file: 3,
            next_page: 257,
            verified_at,
            digested_at: Some(Timestamp(9)),
        };
        for (number, verified_at) in [(1, None), (2, None), (1, Some(Timestamp(7)))] {
            put(&connection, &record(number, verified_at)).unwrap();
        }
        for at in [5, 6] {
            begin_round(&connection, Timestamp(at)).unwrap();
        }
        let files = vec![record(1, Some(Timestamp(7))), record(2, None)];
        assert_eq!(read(&connection).unwrap(), ScrubProgress { round_began: Some(Timestamp(6)), files });
        let ids = [1, 2].map(|number| ReplicaId::from_bytes([number; 16]));
        distrust(&mut connection, &ids, "old").unwrap();
        distrust(&mut connection, &ids[..1], "later").unwrap();
        let known = distrusted(&connection).unwrap();
        assert_eq!(known, ids.map(|id| (id, "old".to_owned())));
        remove(&connection, ids[0]).unwrap();
        assert_eq!(read(&connection).unwrap().files, [record(2, None)]);
        assert_eq!(distrusted(&connection).unwrap().len(), 1);
    }
}
