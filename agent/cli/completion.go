package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

const completionText = `Prints a script for the shell to read:
  bash: source <(vragent completion bash)
  zsh:  source <(vragent completion zsh)
  fish: vragent completion fish | source`

// completionCommand writes a static script from the program's own command list.
func completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "completion script for bash, zsh or fish", ArgsUsage: "bash|zsh|fish",
		Description: completionText, HideHelpCommand: true,
		OnUsageError: func(ctx *cli.Context, err error, _ bool) error { return usage(ctx, "%v", err) },
		Action: func(ctx *cli.Context) error {
			if ctx.NArg() != 1 {
				return usage(ctx, "want one of bash, zsh, fish")
			}
			switch shell := ctx.Args().First(); shell {
			case "bash":
				writeBash(ctx.App.Writer, ctx.App, "")
			case "zsh":
				writeBash(ctx.App.Writer, ctx.App, "autoload -U +X bashcompinit && bashcompinit\n")
			case "fish":
				writeFish(ctx.App.Writer, ctx.App)
			default:
				return usage(ctx, "unknown shell %q: want bash, zsh or fish", shell)
			}
			return nil
		},
	}
}

// writeBash prints a bash function; zsh reads the same after head.
func writeBash(w io.Writer, app *cli.App, head string) {
	name := app.Name
	fmt.Fprintf(w, "# %s completion\n%s_%s() {\n", name, head, name)
	fmt.Fprint(w, "  local cur=\"${COMP_WORDS[COMP_CWORD]}\" words\n")
	fmt.Fprint(w, "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n")
	fmt.Fprintf(w, "    words=%q\n  else\n    case \"${COMP_WORDS[1]}\" in\n", strings.Join(commandNames(app), " "))
	for _, c := range app.VisibleCommands() {
		fmt.Fprintf(w, "      %s) words=%q ;;\n", c.Name, strings.Join(completions(c), " "))
	}
	fmt.Fprint(w, "    esac\n  fi\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n")
	fmt.Fprintf(w, "complete -o default -F _%s %s\n", name, name)
}

func writeFish(w io.Writer, app *cli.App) {
	name := app.Name
	fmt.Fprintf(w, "# %s completion\n", name)
	for _, c := range app.VisibleCommands() {
		fmt.Fprintf(w, "complete -c %s -f -n __fish_use_subcommand -a %s -d %s\n", name, c.Name, fishQuote(c.Usage))
		for _, word := range completions(c) {
			if long, ok := strings.CutPrefix(word, "--"); ok {
				fmt.Fprintf(w, "complete -c %s -f -n '__fish_seen_subcommand_from %s' -l %s\n", name, c.Name, long)
				continue
			}
			fmt.Fprintf(w, "complete -c %s -f -n '__fish_seen_subcommand_from %s' -a %s\n", name, c.Name, word)
		}
	}
}

func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func commandNames(app *cli.App) []string {
	var names []string
	for _, c := range app.VisibleCommands() {
		names = append(names, c.Name)
	}
	return names
}

// completions are the words that may follow a command: its subcommands and their
// flags, its own long flags and, for completion itself, the shells.
func completions(c *cli.Command) []string {
	var words []string
	for _, sub := range c.Subcommands {
		words = append(words, sub.Name)
		for _, f := range sub.Flags {
			words = append(words, "--"+f.Names()[0])
		}
	}
	for _, f := range c.Flags {
		words = append(words, "--"+f.Names()[0])
	}
	if c.Name == "completion" {
		words = append(words, "bash", "zsh", "fish")
	}
	return append(words, "--help")
}
