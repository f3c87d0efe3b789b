// kvsync, the tool: parses the command line, runs one command, and turns its end into an exit status.

import ArgumentParser

@main
struct Tool: AsyncParsableCommand {
  static let version = "0.1.0"

  static let configuration = CommandConfiguration(
    commandName: "kvsync",
    abstract: "A key-value store for programs that work offline, and the hub where its replicas meet.",
    discussion: """
      Example, two replicas and a hub on one machine:
        kvsync init notes && kvsync put notes weather/today rain
        kvsync serve hub-data --listen 127.0.0.1:7447 &
        kvsync sync notes kvsync://127.0.0.1:7447/notes

      Exit status:
        0 ok                10 no store there   14 corrupt
        1 failed, absent    11 in use           15 full
        3 differences or    12 not allowed      16 another space
          undecided ones    13 hub unreachable  64 wrong usage

      Data goes to standard output, messages and progress to standard error.
      """,
    version: "kvsync \(version)",
    groupedSubcommands: [
      CommandGroup(
        name: "Data",
        subcommands: [Init.self, Put.self, Get.self, Remove.self, List.self, Load.self, Dump.self]),
      CommandGroup(name: "Inspection", subcommands: [Log.self, Info.self, Verify.self]),
      CommandGroup(
        name: "Maintenance", subcommands: [Backup.self, Compact.self, Destroy.self, VerifyStore.self]),
      CommandGroup(
        name: "Replication",
        subcommands: [
          Serve.self, Token.self, Sync.self, Plan.self, Status.self, Conflicts.self, Parked.self, Scopes.self,
          Export.self, Import.self,
        ]),
    ])

  static func main() async {
    SystemCall.occupyStandardDescriptors()
    Allocator.reuse()
    SystemCall.ignoreBrokenPipes()
    let arguments = ArgumentBytes.processArguments()
    let command: any ParsableCommand
    do {
      if let misreading = CommandLineErrors.misreading(arguments) { throw misreading }
      command = try parseAsRoot(arguments)
      if command is Serve { Allocator.giveBack() }
    } catch {
      // Help and the version are "errors" of the parser as well.
      guard exitCode(for: error) == .validationFailure else { exit(withError: error) }
      SystemCall.exit(CommandLineErrors.report(error, arguments))
    }
    guard let command = command as? any ToolCommand else {
      // One of the parser's own: help, or shell completion.
      do {
        var own = command
        try own.run()
        SystemCall.exit(.ok)
      } catch {
        exit(withError: error)
      }
    }
    SystemCall.exit(await command.outcome())
  }
}
