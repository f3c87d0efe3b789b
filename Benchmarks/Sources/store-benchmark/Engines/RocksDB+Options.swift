// The options with which RocksDB runs, in every row the same: those that an expert would choose for two cores, 64 MB and
// data that the page cache holds. Each was tried against its default on the rows that it concerns.

import CRocksDB

@safe final class RocksDBOptions {
  let options = unsafe rocksdb_options_create()

  /// In the words of the report.
  static let summary = """
    3 memtables of 16 MiB, one writer to them at a time, memory-mapped tables in place of a block cache, hash index in \
    blocks, Bloom filters of 10 bits, dynamic level sizes, 2 background jobs, no compression, WAL kept for a day \
    (recycled where the table says so)
    """

  /// `recyclesLog` overwrites old log files, which can make a lone sync cheaper, but keeps no log to be read.
  init(recyclesLog: Bool) {
    unsafe rocksdb_options_set_create_if_missing(options, 1)
    // One fills, one is flushed, one absorbs the moment between.
    unsafe rocksdb_options_set_write_buffer_size(options, 16 << 20)
    unsafe rocksdb_options_set_max_write_buffer_number(options, 3)
    // On two cores the leader of a group inserts faster alone: a third more with 64 writers.
    unsafe rocksdb_options_set_allow_concurrent_memtable_write(options, 0)
    unsafe rocksdb_options_set_max_background_jobs(options, 2)
    unsafe rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1)
    unsafe rocksdb_options_set_max_bytes_for_level_base(options, 64 << 20)
    unsafe rocksdb_options_set_target_file_size_base(options, 32 << 20)
    unsafe rocksdb_options_set_bytes_per_sync(options, 1 << 20)
    // The values do not compress, and the processor is what is scarce.
    unsafe rocksdb_options_set_compression(options, Int32(rocksdb_no_compression))
    unsafe rocksdb_options_set_info_log_level(options, 3)
    // The page cache is the cache, as it is for the others: twice as many gets as through a block cache that fits.
    unsafe rocksdb_options_set_allow_mmap_reads(options, 1)
    if recyclesLog {
      unsafe rocksdb_options_set_recycle_log_file_num(options, 4)
    } else {
      // What GetUpdatesSince reads: the store under test keeps its log just as well.
      unsafe rocksdb_options_set_WAL_ttl_seconds(options, 86_400)
    }
    let table = unsafe rocksdb_block_based_options_create()
    defer { unsafe rocksdb_block_based_options_destroy(table) }
    unsafe rocksdb_block_based_options_set_no_block_cache(table, 1)
    unsafe rocksdb_block_based_options_set_data_block_index_type(
      table, Int32(rocksdb_block_based_table_data_block_index_type_binary_search_and_hash))
    // Owned by the table's options from here on.
    unsafe rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(10))
    unsafe rocksdb_block_based_options_set_format_version(table, 5)
    unsafe rocksdb_options_set_block_based_table_factory(options, table)
  }

  deinit { unsafe rocksdb_options_destroy(options) }
}
