import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;

/** Runs cases one after the other and counts them; the closing line is what CI reads. */
final class Cases {
    interface Case { void run() throws Exception; }

    private int passed;
    private int failed;
    private final String only;

    Cases(String[] args) {
        only = args.length > 1 ? args[1] : "";
    }

    void run(String name, Case test) {
        if (!name.contains(only)) {
            return;
        }
        long began = System.nanoTime();
        try {
            test.run();
            passed++;
            System.out.printf("ok    %-70s %5.1f s%n", name, (System.nanoTime() - began) / 1e9);
        } catch (Throwable error) {
            failed++;
            System.out.printf("FAIL  %s: %s%n", name, error);
            error.printStackTrace(System.err);
        }
    }

    void close() {
        System.out.printf("%d passed, %d failed%n", passed, failed);
        System.out.flush();
        System.exit(failed == 0 ? 0 : 1);
    }

    static void check(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    static void same(Object expected, Object found) {
        if (!java.util.Objects.equals(expected, found)) {
            throw new AssertionError("expected " + expected + ", found " + found);
        }
    }

    /** Waits for a condition, as long as a noisy machine may need. */
    static void until(String what, Callable<Boolean> condition) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (!condition.call()) {
            if (System.nanoTime() > end) {
                throw new AssertionError(what + ": not within 60 s");
            }
            Thread.sleep(20);
        }
    }

    /** Runs the command in an environment variable: LEADER_KILL, LEADER_START. */
    static void hook(String name) throws Exception {
        String command = System.getenv(name);
        check(command != null, name + " is not set: this case needs a cluster that it may hurt");
        Process process = new ProcessBuilder("sh", "-c", command).redirectErrorStream(true)
            .redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
        check(process.waitFor(90, TimeUnit.SECONDS) && process.exitValue() == 0, command + " failed");
    }
}
