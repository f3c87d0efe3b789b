// The options with which RocksDB runs, in every row the same.

import CRocksDB

@safe final class RocksDBOptions {
  let options = unsafe rocksdb_options_create()
  private let cache = unsafe rocksdb_cache_create_lru(16 << 20)

  /// In the words of the report.
  static let summary = """
    2 memtables of 16 MiB, block cache of 16 MiB, Bloom filters of 10 bits, dynamic level sizes, 2 background jobs, \
    pipelined writes, no compression, WAL kept for a day (recycled in the row that says so)
    """

  /// `recyclesLog` overwrites old log files, which makes a lone sync cheaper, but keeps no log to be read.
  init(recyclesLog: Bool) {
    unsafe rocksdb_options_set_create_if_missing(options, 1)
    // Two memtables, one of which is flushed while the other fills: a third would not fit beside cache and filters.
    unsafe rocksdb_options_set_write_buffer_size(options, 16 << 20)
    unsafe rocksdb_options_set_max_write_buffer_number(options, 2)
    unsafe rocksdb_options_set_max_background_jobs(options, 2)
    unsafe rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1)
    unsafe rocksdb_options_set_max_bytes_for_level_base(options, 64 << 20)
    unsafe rocksdb_options_set_target_file_size_base(options, 32 << 20)
    unsafe rocksdb_options_set_bytes_per_sync(options, 1 << 20)
    unsafe rocksdb_options_set_enable_pipelined_write(options, 1)
    unsafe rocksdb_options_set_compression(options, Int32(rocksdb_no_compression))
    unsafe rocksdb_options_set_info_log_level(options, 3)
    if recyclesLog {
      unsafe rocksdb_options_set_recycle_log_file_num(options, 4)
    } else {
      // What GetUpdatesSince reads: the store under test keeps its log just as well.
      unsafe rocksdb_options_set_WAL_ttl_seconds(options, 86_400)
    }
    let table = unsafe rocksdb_block_based_options_create()
    defer { unsafe rocksdb_block_based_options_destroy(table) }
    unsafe rocksdb_block_based_options_set_block_cache(table, cache)
    // Owned by the table's options from here on.
    unsafe rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(10))
    unsafe rocksdb_block_based_options_set_format_version(table, 5)
    unsafe rocksdb_options_set_block_based_table_factory(options, table)
  }

  deinit {
    unsafe rocksdb_options_destroy(options)
    unsafe rocksdb_cache_destroy(cache)
  }
}
