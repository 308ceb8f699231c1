//! Against a real PostgreSQL.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::server::Server;
use super::*;
use crate::domain::usage::record::RecordBody;
use crate::sinks::samples::record;
use crate::sinks::testing::{offer_until_taken, terms, trusting};

fn sink_of(server: &Server) -> PostgresSink {
    PostgresSink::new(terms(), server.config(), None, "told")
}

async fn client_of(server: &Server) -> Client {
    let (client, connection) = server.config().connect(NoTls).await.expect("connects");
    tokio::spawn(async { drop(connection.await) });
    client.batch_execute("SET search_path TO told").await.expect("the schema is set");
    client
}

async fn number(client: &Client, question: &str) -> i64 {
    client.query_one(question, &[]).await.unwrap_or_else(|error| panic!("{question}: {error:?}")).get(0)
}

#[tokio::test]
async fn tables_and_views_are_made_and_each_record_stands_there_once() {
    let Some(mut server) = Server::start(None).await else { return };
    let mut sink = sink_of(&server);
    let records: Vec<Record> =
        (1..=50).map(|sequence| record(RecordKind::ALL[sequence % 5], sequence as u64)).collect();
    sink.take(&records[..30]).await.unwrap();
    sink.take(&records[10..40]).await.unwrap();
    // Another process begins with what is there, also two at once.
    let (mut second, mut third) = (sink_of(&server), sink_of(&server));
    let both = tokio::join!(second.take(&records), third.take(&records[20..]));
    assert_eq!(both, (Ok(()), Ok(())));
    let client = client_of(&server).await;
    for (table, count) in [("usage", 10), ("ranges", 10), ("nodes", 10), ("events", 20)] {
        assert_eq!(number(&client, &format!("SELECT count(*) FROM {table}")).await, count, "{table}");
    }
    for view in ["usage_minute", "usage_hour", "usage_by_tenant"] {
        assert_eq!(number(&client, &format!("SELECT sum(requests)::bigint FROM {view}")).await, 10, "{view}");
    }
    let question =
        "SELECT (extract(epoch FROM at) * 1000)::bigint FROM usage WHERE sequence = 5 AND tenant_name = 'acme'
        AND latency_buckets[2] = 1 AND principal_id IS NULL AND operation = 'put-item'";
    assert_eq!(number(&client, question).await, 1_800_000_050_000);
    let question = "SELECT count(*) FROM events WHERE kind = 'admin-event' AND message = 'a \"word\"'";
    assert_eq!(number(&client, question).await, 10);

    // It crashes and comes back: what was taken is there, and the sink goes on.
    server.stop();
    assert!(matches!(sink.take(&records).await, Err(SinkError::Later(_))));
    server.start_again().await;
    let more: Vec<Record> = (51..=60).map(|sequence| record(RecordKind::Usage, sequence)).collect();
    offer_until_taken(&mut sink, &more, 5).await;
    assert_eq!(number(&client_of(&server).await, "SELECT count(*) FROM usage").await, 20);
}

#[tokio::test]
async fn what_the_database_will_never_take_is_told_apart() {
    let Some(server) = Server::start(None).await else { return };
    let mut sink = sink_of(&server);
    let with_message = |message: &str| {
        let mut record = record(RecordKind::Notice, 2);
        if let RecordBody::Notice(event) = &mut record.body {
            event.message = message.to_owned();
        }
        record
    };
    let mut too_large = record(RecordKind::Range, 3);
    if let RecordBody::Range(range) = &mut too_large.body {
        range.gauge.items = u64::MAX;
    }
    let good = record(RecordKind::Usage, 1);
    for bad in [with_message("secret \0 text"), too_large] {
        let took = sink.take(&[good.clone(), bad]).await;
        assert!(matches!(&took, Err(SinkError::Unacceptable(told)) if !told.contains("secret")), "{took:?}");
    }
    let client = client_of(&server).await;
    assert_eq!(number(&client, "SELECT count(*) FROM usage").await, 0, "a batch is taken whole or not at all");
    sink.take(&[good, with_message("more ' \" \\ \u{7f} \u{1f600}")]).await.unwrap();
    client.batch_execute("ALTER TABLE events ADD CHECK (what <> 'split')").await.unwrap_err();
    client.batch_execute("ALTER TABLE events ADD CHECK (sequence < 3)").await.unwrap();
    let took = sink.take(&[record(RecordKind::Notice, 9)]).await;
    assert!(matches!(took, Err(SinkError::Unacceptable(_))), "{took:?}");

    // What somebody can mend is no reason to set anything aside.
    client.batch_execute("ALTER TABLE events RENAME TO gone").await.unwrap();
    let took = sink.take(&[record(RecordKind::Notice, 2)]).await;
    assert!(matches!(took, Err(SinkError::Later(_))), "{took:?}");
    client.batch_execute("ALTER TABLE gone RENAME TO events; UPDATE schema_version SET version = 99").await.unwrap();
    let told = sink_of(&server).take(&[record(RecordKind::Notice, 2)]).await.unwrap_err();
    assert!(matches!(&told, SinkError::Later(told) if told.contains("start a newer one")), "{told:?}");
    let mut wrong = server.config();
    wrong.password("hunter3");
    let told = PostgresSink::new(terms(), wrong, None, "told").take(&[]).await.unwrap_err().to_string();
    assert!(told.contains("password authentication failed") && !told.contains("hunter"), "{told}");
}

#[tokio::test]
async fn tls_is_demanded_and_the_server_must_be_the_one_that_is_meant() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let Some(server) = Server::start(Some((&certificate.pem(), &key.serialize_pem()))).await else { return };
    let with_roots = |pem: &str, host: &str| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        let mut config = Config::new();
        config.host(host).port(server.port).user("postgres").dbname("postgres").password("hunter2");
        config.hostaddr(std::net::Ipv4Addr::LOCALHOST.into());
        PostgresSink::new(terms(), config, Some(trusting(roots)), "told")
    };
    let mut sink = with_roots(&certificate.pem(), "127.0.0.1");
    sink.take(&[record(RecordKind::Usage, 1)]).await.unwrap();
    let question = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE ssl AND application_name = 'dstore reporting'";
    assert_eq!(number(&client_of(&server).await, question).await, 1);
    let other_key = rcgen::KeyPair::generate().unwrap();
    let other = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&other_key).unwrap();
    for (pem, host) in [(other.pem(), "127.0.0.1"), (certificate.pem(), "db.example.com")] {
        let took = with_roots(&pem, host).take(&[record(RecordKind::Usage, 2)]).await;
        assert!(matches!(&took, Err(SinkError::Later(told)) if told.contains("certificate")), "{took:?}");
    }
    let Some(plain) = Server::start(None).await else { return };
    let mut config = plain.config();
    config.ssl_mode(tokio_postgres::config::SslMode::Prefer);
    let mut sink = PostgresSink::new(terms(), config, Some(trusting(rustls::RootCertStore::empty())), "told");
    let took = sink.take(&[record(RecordKind::Usage, 1)]).await;
    assert!(matches!(took, Err(SinkError::Later(_))), "{took:?}");
}
