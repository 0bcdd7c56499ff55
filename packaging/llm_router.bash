# Completion of llm_router for bash. Needs nothing but bash.

_llm_router_nodes()
{
    local host name names

    host=$(hostname -s 2>/dev/null) || return
    names=$(epmd -names 2>/dev/null | sed -n 's/^name \(.*\) at port .*/\1/p')
    for name in $names; do
        echo "$name@$host"
    done
}

_llm_router()
{
    local names='--sname --name --cookie-file
        --tls-dist --tls-cert --tls-key --tls-ca'
    local run='--connect --config --http --supervised --check-config
        --print-config --migrate --version --help'
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}

    COMPREPLY=()
    case $before in
    --cookie-file | --tls-cert | --tls-key | --tls-ca | --config)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    --connect | --node)
        mapfile -t COMPREPLY < <(compgen -W "$(_llm_router_nodes)" -- "$word")
        return
        ;;
    --sname | --name | --http | --interval)
        return
        ;;
    esac
    case ${COMP_WORDS[1]} in
    status) run='--node --json --help' ;;
    top) run='--node --interval --help' ;;
    *) [ "$COMP_CWORD" -gt 1 ] || run="$run status top" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$run $names" -- "$word")
} &&
    complete -F _llm_router llm_router
