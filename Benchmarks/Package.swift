// swift-tools-version: 6.2

import PackageDescription

/// Those of the library's package.
let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
  .enableExperimentalFeature("Lifetimes"),
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
]

// A package of its own: peers never enter the library's build.
let package = Package(
  name: "kvsync-benchmarks",
  platforms: [.macOS(.v15)],
  dependencies: [
    .package(name: "kvsync", path: ".."),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
  ],
  targets: [
    .systemLibrary(name: "CLMDBPeer", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"]), .brew(["lmdb"])]),
    .executableTarget(
      name: "kvsync-bench",
      dependencies: [
        "CLMDBPeer",
        .product(name: "KVStore", package: "kvsync"),
        .product(name: "KVReplicator", package: "kvsync"),
        .product(name: "KVHub", package: "kvsync"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: settings),
  ]
)
