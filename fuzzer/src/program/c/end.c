
/* Prints `call N: RESULT` on the hypervisor's console (console_io, CONSOLEIO_write). */
static void report(uint32_t call, int64_t value)
{
    char line[48];
    uint64_t left = value < 0 ? -(uint64_t)value : (uint64_t)value;
    uint32_t at = sizeof line;
    line[--at] = '\n';
    do
        line[--at] = (char)('0' + left % 10);
    while (left /= 10);
    if (value < 0)
        line[--at] = '-';
    line[--at] = ' ';
    line[--at] = ':';
    do
        line[--at] = (char)('0' + call % 10);
    while (call /= 10);
    for (const char *word = " llac"; *word; word++)
        line[--at] = *word;
    hypercall(18, 0, sizeof line - at, (uint64_t)&line[at], 0, 0, 0);
}

void guest_main(void);
void guest_main(void)
{
    static int64_t returned[CALLS];
    find_hypervisor();
    for (uint32_t call = 0; call < CALLS; call++)
        returned[call] = NO_VALUE;
    for (uint32_t call = 0; call < CALLS; call++)
        returned[call] = calls[call]();
    /* Only now: nothing comes between the calls. */
    for (uint32_t call = 0; call < CALLS; call++)
        report(call, returned[call]);
    uint32_t reason = 0; /* SHUTDOWN_poweroff */
    hypercall(29, 2, (uint64_t)&reason, 0, 0, 0, 0); /* sched_op, SCHEDOP_shutdown */
}
