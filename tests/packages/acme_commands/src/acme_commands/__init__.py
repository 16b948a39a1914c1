"""A command of its own, and an ear for everything that a run tells."""

from roadwork_core import hookimpl


@hookimpl
def roadwork_commands(subparsers):
    parser = subparsers.add_parser("greet", help="say hello")
    parser.add_argument("name")
    parser.set_defaults(handler=greet)


def greet(args, console):
    console.out(f"hello, {args.name}")
    return 0
