use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tempfile::TempDir;
use xgraft_dataset::read_questions;

const SCHEMA: &str = "message schema {
  OPTIONAL INT64 instance_id; OPTIONAL INT64 task_instance_id;
  OPTIONAL BYTE_ARRAY task_name (UTF8); OPTIONAL BYTE_ARRAY split (UTF8);
  OPTIONAL BYTE_ARRAY prompt (UTF8); OPTIONAL BYTE_ARRAY answer (UTF8); }";

/// A table as pandas writes it: optional columns, several row groups.
fn write(path: &Path, compression: Compression, groups: i64) {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let properties = WriterProperties::builder().set_compression(compression);
    let properties = Arc::new(properties.build());
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    for group in 0..groups {
        let mut rows = writer.next_row_group().unwrap();
        let texts = ["crispr_delivery", "val", "which vector?", "b"];
        for column in 0..6_usize {
            let mut open = rows.next_column().unwrap().unwrap();
            if column < 2 {
                let values = [2 * group, 2 * group + 1];
                open.typed::<Int64Type>()
                    .write_batch(&values, Some(&[1, 1]), None)
                    .unwrap();
            } else {
                let value = ByteArray::from(texts[column - 2]);
                open.typed::<ByteArrayType>()
                    .write_batch(&[value.clone(), value], Some(&[1, 1]), None)
                    .unwrap();
            }
            open.close().unwrap();
        }
        rows.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn questions_are_read_from_every_compression_that_pandas_writes() {
    let folder = TempDir::new().unwrap();
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd] {
        // The name says nothing.
        let path = folder.path().join("eval1.bin");
        write(&path, compression, 3);
        let questions = read_questions(&path).unwrap();
        assert_eq!(questions.len(), 6);
        assert_eq!(questions[5].id, "5");
        assert_eq!(questions[5].answer, "b");
    }
}

#[test]
fn a_damaged_file_is_an_error_with_its_name() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("eval1.parquet");
    write(&path, Compression::UNCOMPRESSED, 1);
    let bytes = std::fs::read(&path).unwrap();
    for keep in [4, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..keep]).unwrap();
        let message = read_questions(&path).unwrap_err().to_string();
        assert!(message.contains("eval1.parquet"), "{message}");
    }
}
