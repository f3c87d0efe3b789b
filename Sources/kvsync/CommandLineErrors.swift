// Wrong usage: what is wrong with the arguments, the usage line, and a hint; status 64.
//
// Invariant: an argument that the user meant as a key or a value never turns into a request for help. All options here
// are long ones; the parser would take `-dash` for the options -d, -a, -s and -h.

import ArgumentParser

enum CommandLineErrors {
  /// The options that take no value.
  private static let flags: Set = [
    "--json", "--push", "--pull", "--continuous", "--adopt", "--insecure", "--from-log", "--all", "--unresolved",
    "--help",
    "-h", "--version",
  ]

  /// What the parser would misread, or nil.
  static func misreading(_ arguments: [String]) -> ValidationError? {
    let options = arguments.prefix { $0 != "--" }
    let takesBytes = arguments.first.map(takesBytes) ?? false
    let index = options.firstIndex { word in
      guard word.hasPrefix("-"), word.count > 1, !flags.contains(word) else { return false }
      return takesBytes || !word.hasPrefix("--")
    }
    if let index {
      let word = printable(options[index])
      let before = index > 0 ? options[index - 1] : ""
      let takesValue = before.hasPrefix("--") && !before.contains("=") && !flags.contains(before)
      return ValidationError(
        takesValue ? "Missing value for '\(before)': '\(word)' is taken for an option" : "Unknown option '\(word)'")
    }
    // Beside --help the parser overlooks a command that it does not know.
    let name = arguments.first == "help" ? arguments.dropFirst().first : arguments.first
    guard let name, !name.hasPrefix("-"), name != "help", command(name) == nil else { return nil }
    return ValidationError("There is no command '\(printable(name))'")
  }

  /// Reports the error as the parser does, with a hint; as JSON when that was asked for. Gives the status.
  static func report(_ error: any Error, _ arguments: [String]) -> ExitStatus {
    let command = arguments.first.flatMap(command)
    let what = Tool.message(for: error)
    let hint = hint(what, command)
    let name = command?.configuration.commandName ?? ""
    if arguments.prefix(while: { $0 != "--" }).contains("--json") {
      Messages.write(Failure(.usage, what, remedy: hint ?? usage(command)).json(command: name))
      return .usage
    }
    var text = "Error: \(what)\n"
    if let hint { text += "  \(hint)\n" }
    text += "\(usage(command))\n  See 'kvsync \(name.isEmpty ? "" : "\(name) ")--help' for more information.\n"
    Messages.write(text)
    return .usage
  }

  /// Commands with a key or a value among their arguments: what looks like an option may be meant as one of these.
  private static func takesBytes(_ name: String) -> Bool { ["put", "get", "rm"].contains(name) }

  private static func command(_ name: String) -> (any ParsableCommand.Type)? {
    Tool.configuration.groupedSubcommands.flatMap(\.subcommands).first { $0.configuration.commandName == name }
  }

  private static func usage(_ command: (any ParsableCommand.Type)?) -> String {
    "Usage: " + (command.map { Tool.usageString(for: $0) } ?? Tool.usageString())
  }

  private static func hint(_ what: String, _ command: (any ParsableCommand.Type)?) -> String? {
    if what.hasPrefix("Missing value for '--") {
      let option = what.dropFirst("Missing value for '".count).prefix { $0 != " " && $0 != "'" }
      return "A value that begins with \"-\" follows an equals sign: \(option)=-x"
    }
    guard what.hasPrefix("Unknown option"), let name = command?.configuration.commandName, takesBytes(name) else {
      return nil
    }
    return "A key or a value that begins with \"-\" goes after \"--\": kvsync \(name) STORE -- -key"
  }

  private static func printable(_ argument: String) -> String {
    String(decoding: ArgumentBytes.decode(argument), as: UTF8.self)
  }
}
